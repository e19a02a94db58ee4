# SPDX-License-Identifier: GPL-3.0-or-later
# A directory rename that a crash cut in half is finished, and nobody's write is lost by that: what came to the old name
# after the rename began stays there, and where two contents of one file meet, both are kept.
. "$TESTS_DIR/lib.sh"
store_start
mount_lsvdfs a
umount_lsvdfs a
put() { # KEY TEXT
	echo "$2" >"$T/text"
	obj_put "$1" "$T/text"
}
intent() {
	printf '{"version":1,"what":"rename","from":"from/","to":"to/","node":"%s","time":1}' \
		"$(cat "$T"/a.state/*/slot-0/node)" >"$T/text"
	obj_put .lsvd/intent/i "$T/text"
}
put from/copied same
put from/todo todo
put from/both 'the source, perhaps newer'
put to/copied same
put to/both 'the target'
intent
sleep 1.1 # LastModified has whole seconds: what follows is younger than the intent
put from/todo2 'after the crash'
put from/copied 'written anew'
mount_lsvdfs a
eq "$(status a recovery.renames)" 1 "renames"
eq "$(cd "$T/a" && grep -r . | sort | tr '\n' ' ')" \
	'from/both:the source, perhaps newer from/copied:written anew from/todo2:after the crash to/both:the target to/copied:same to/todo:todo '
eq "$(obj_keys .lsvd/intent/)" '' "intents"
finish
