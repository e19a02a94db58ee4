# SPDX-License-Identifier: GPL-3.0-or-later
# guest.sh - virtual machines for tests (sourced after lib.sh): QEMU without hardware support, Debian's cloud kernel
# (tests/guests/kernel), a small initramfs of this machine's programs. Boots in some 5 s.
#
#	guest_need			skips where something is missing
#	guest_kit PROGRAM...		makes $T/initrd; names or paths; all are in /bin there; modules: KIT_MODULES more
#	guest_start NAME SCRIPT [DISK...]	a DISK is FILE,OPTION,... of -drive; /dev/vda and so on; returns at once
#	guest_said NAME PATTERN		did the script say that?
#	guest_wait NAME SECONDS		until it is off; status: that of the script
#	guest_kill NAME			kill -9, as a power cut is
# What the script says is in $T/NAME.out, what its kernel says in $T/NAME.console.log. Files in $T/NAME.root/ are in
# the guest's /root, those in $T/kit.add/ in every guest's /. MEM (384M), GUEST_ACCEL (tcg); GUEST_NET: eth0, where 10.0.2.2 is the loopback of this machine.

GUEST_KERNEL=${GUEST_KERNEL:-/var/cache/lsvdfs-tests/kernel}
declare -A guest=()

guest_need() {
	need_root
	need_cmd qemu-system-x86_64 cpio modprobe
	[ -x /bin/busybox ] || skip "no busybox-static (tests/setup)"
	[ -e "$GUEST_KERNEL/.done" ] || skip "no kernel for guests in $GUEST_KERNEL (tests/setup)"
}

kit_libs() {
	{ ldd "$1" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | sort -u | while read -r l; do
		[ -e "$kit$l" ] || { mkdir -p "$kit${l%/*}" && cp -L "$l" "$kit$l"; }
	done
}
guest_kit() {
	local p f ver m kit=$T/kit
	set -- bash mke2fs e2fsck mkfs.xfs xfs_repair sha256sum dd stty "$@"
	mkdir -p "$kit"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,tmp,mnt,root,run,etc,lib,lib64}
	cp /bin/busybox "$kit/bin/busybox"
	chroot "$kit" /bin/busybox --install -s /bin
	for p; do
		f=$kit/bin/${p##*/}
		rm -f "$f"
		cp -L "$(command -v "$p")" "$f"
		kit_libs "$f"
	done
	ln -sfn mke2fs "$kit/bin/mkfs.ext4"
	[ ! -e /etc/mke2fs.conf ] || cp /etc/mke2fs.conf "$kit/etc/"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$kit/etc/passwd"
	echo 'root:x:0:' >"$kit/etc/group"
	echo '127.0.0.1 localhost' >"$kit/etc/hosts"
	ver=$(ls "$GUEST_KERNEL/lib/modules")
	for m in virtio_pci virtio_blk virtio_rng virtio_net ext4 xfs loop fuse crc32c_generic ${KIT_MODULES:-}; do
		modprobe -d "$GUEST_KERNEL" -S "$ver" --show-depends "$m" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' >"$T/modules"
	mkdir -p "$kit/lib/mod"
	while read -r f; do
		cp "$f" "$kit/lib/mod/"
		echo "/lib/mod/${f##*/}"
	done <"$T/modules" >"$kit/etc/modules"
	cp "$TESTS_DIR/guests/init" "$kit/init"
	chmod 755 "$kit/init"
	[ ! -e "$T/kit.add" ] || cp -a "$T/kit.add/." "$kit/"
	(cd "$kit" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) >"$T/initrd"
	rm -rf "$kit"
}

guest_start() {
	local name=$1 script=$2 d args=() n=0 cpu=max add=$T/$1.add
	shift 2
	for d; do
		args+=(-drive "file=${d%%,*},format=raw,if=none,id=d$n,discard=unmap,${d#*,}"
			-device "virtio-blk-pci,drive=d$n,serial=disk$n")
		n=$((n + 1))
	done
	[ -z "${GUEST_NET:-}" ] || args+=(-netdev user,id=n -device virtio-net-pci,netdev=n,romfile=)
	rm -rf "$add"
	mkdir -p "$add/root" "$T/$name.root"
	cp -a "$T/$name.root/." "$add/root/"
	cp "$script" "$add/run.sh"
	# compressed: an archive behind another one must begin at a multiple of 4, or it is not seen
	{ cat "$T/initrd"; (cd "$add" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1); } >"$T/$name.initrd"
	rm -rf "$add"
	[ "${GUEST_ACCEL:-tcg}" != kvm ] || cpu=host
	: >"$T/$name.out"
	# no_timer_check: where the processor is shared by many, that check is not in time, and the kernel panics
	qemu-system-x86_64 -machine q35,usb=off -accel "${GUEST_ACCEL:-tcg}" -cpu $cpu -smp 1 -m "${MEM:-384M}" -nodefaults \
		-nographic -no-reboot -kernel "$GUEST_KERNEL"/boot/vmlinuz-* -initrd "$T/$name.initrd" \
		-append "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off random.trust_cpu=on" -serial "file:$T/$name.console.log" \
		-serial "file:$T/$name.out" -monitor none "${args[@]}" </dev/null >"$T/$name.qemu.log" 2>&1 &
	guest[$name]=$!
	on_exit "guest_kill $name"
}
guest_said() { tr -d '\r\0' <"$T/$1.out" | has "$2"; }
guest_off() { ! kill -0 "${guest[$1]}" 2>/dev/null; }
# wait_said NAME PATTERN SECONDS: fails early when the guest is off
guest_wait_said() {
	local end=$((SECONDS + $3))
	until guest_said "$1" "$2"; do
		! guest_off "$1" || fail "$1 is off and never said '$2': $(tail -n 5 "$T/$1.out" "$T/$1.qemu.log")"
		[ $SECONDS -lt $end ] || fail "$1 did not say '$2' in $3 s: $(tail -n 5 "$T/$1.out")"
		sleep 0.1
	done
}
guest_wait() {
	local status
	wait_for "$2" guest_off "$1"
	wait "${guest[$1]}" 2>/dev/null || true
	unset "guest[$1]"
	status=$(tr -d '\r\0' <"$T/$1.out" | sed -n 's/^#exit //p' | tail -n 1)
	[ -n "$status" ] || fail "$1 ended without a status: $(tail -n 5 "$T/$1.console.log" "$T/$1.qemu.log")"
	return "$status"
}
guest_kill() {
	[ -n "${guest[$1]:-}" ] || return 0
	kill -9 "${guest[$1]}" 2>/dev/null || true
	wait "${guest[$1]}" 2>/dev/null || true
	unset "guest[$1]"
}
