# SPDX-License-Identifier: GPL-3.0-or-later
# Shared by the start and stop scripts (sourced by bash). Everything of one server lies in one directory, $D; many may
# run side by side. A process is ended only if its pid file is in $D and its command line names $D.

# A TCP port of 127.0.0.1 that nobody listens on. Below the ephemeral range, so that no outgoing connection takes it
# before its server does; two callers may still meet: the start scripts try again with other ports.
free_port() {
	local p i
	for i in $(seq 200); do
		p=$((10240 + (RANDOM << 15 | RANDOM) % 20000))
		(: <>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo $p; return 0; }
	done
	return 1
}

# pid_of FILE: the living process that FILE names, if its command line mentions $D.
pid_of() {
	local p
	p=$(cat "$1" 2>/dev/null) && [ -n "$p" ] || return 1
	{ tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -qF -- "$D/" || return 1
	echo "$p"
}

# stop_pids PID...: kill -9 and wait until they are gone. What they hold is thrown away anyway.
stop_pids() {
	local p i left=
	[ $# = 0 ] && return 0
	kill -9 "$@" 2>/dev/null
	for i in $(seq 200); do
		left=
		for p in "$@"; do
			case $(sed 's/.*) //' "/proc/$p/stat" 2>/dev/null) in '' | Z*) ;; *) left="$left $p" ;; esac
		done
		[ -z "$left" ] && return 0
		sleep 0.05
	done
	echo "still alive:$left" >&2
	return 1
}

write_env() {
	cat >"$D/env" <<-E
	S3_ENDPOINT=$1
	S3_BUCKET=$2
	AWS_ACCESS_KEY_ID=$3
	AWS_SECRET_ACCESS_KEY=$4
	AWS_DEFAULT_REGION=us-east-1
	E
}
