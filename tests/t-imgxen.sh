# SPDX-License-Identifier: GPL-3.0-or-later
# Xen 4.17 in QEMU, without hardware support; its dom0 has the mount, and images on it are disks of PV domUs: file:, tap:aio:,
# qdisk, phy: on a loop with direct I/O, contrib/xen/block-lsvdfs (KINDS; boot: see below). For each, a domU makes a file system, writes, discards
# (the bucket has the space back), and is destroyed under its writes; the next one finds every file that was synced.
#
# boot: a disk that the words of the mission make, with a system on it that a domU boots from; a clone of it, taken while
# that one writes, boots a second one. After it, with the same domU: others, what a second opener meets; taken, another
# machine takes the disk over (fsync=remote).
# The bucket is on the host (rgw, front) or on a disk of dom0 (file). tests/guests/xen makes dom0, tests/guests/xen-dom0 and
# xen-domu are what runs there.
. "$TESTS_DIR/lib.sh"
. "$TESTS_DIR/guests/guest.sh"
KINDS=${KINDS:-file tap qdisk phy script boot others taken}
SLOW=${SLOW:-10000} # seconds for all of dom0; STEP: for each of its steps
need_backend rgw front file
guest_need
need_cmd debootstrap e2fsck losetup
cache=${GUEST_CACHE:-/var/cache/lsvdfs-tests}
"$TESTS_DIR/guests/xen" "$cache" >"$T/xen.log" 2>&1 || skip "no Xen: $(tail -n 1 "$T/xen.log")"
prog=$LSVDFS
[ ! -x "$top_builddir/.libs/lsvdfs" ] || prog=$top_builddir/.libs/lsvdfs
store_start

mkdir -p "$T/kit.add"
cp "$TESTS_DIR/guests/xen-domu" "$T/kit.add/run.sh"
KIT_MODULES=xen-blkfront guest_kit "$TESTS_DIR/guests/files" fstrim sync
mkdir -p "$T/test/bin" "$T/test/domu" "$T/test/bucket"
cp "$prog" "$top_srcdir/contrib/xen/block-lsvdfs" "$T/test/bin/"
cp "$GUEST_KERNEL"/boot/vmlinuz-* "$T/test/domu/vmlinuz"
cp "$T/initrd" "$T/test/domu/initrd"
cp "$TESTS_DIR/guests/xen-dom0" "$T/test/run"
{
	printf '%s=%q\n' KINDS "$KINDS" STEP "${STEP:-900}" SEED "$SEED"
	if [ "$BACKEND" = file ]; then
		printf '%s=%q\n' SOURCE file:///test/bucket OPTS "$MOUNT_OPTS"
	else
		printf '%s=%q\n' SOURCE "$SOURCE" OPTS "${STORE_OPTS/127.0.0.1/10.0.2.2}${MOUNT_OPTS:+,$MOUNT_OPTS}" NET 1
		printf 'export %s=%q\n' AWS_EC2_METADATA_DISABLED true AWS_ACCESS_KEY_ID "$AWS_ACCESS_KEY_ID" \
			AWS_SECRET_ACCESS_KEY "$AWS_SECRET_ACCESS_KEY"
	fi
} >"$T/test/conf"
truncate -s 4G "$T/test.disk"
mke2fs -q -t ext4 -d "$T/test" "$T/test.disk"
: >"$T/dom0.out"

# smap, smep: dom0 runs in ring 3, which QEMU's idea of these does not know. Two processors for dom0, and its clock drifts.
# No icount: dom0 is not up after an hour then.
qemu-system-x86_64 -machine q35,usb=off -accel tcg,thread=multi -cpu max -smp 2 -m 2G -nodefaults -nographic -no-reboot \
	-kernel "$cache/xen/xen" -initrd "$cache/xen/vmlinuz console=hvc0 quiet panic=-1 mitigations=off random.trust_cpu=on,$cache/xen/initrd" \
	-append "console=com1 com1=115200,8n1 loglvl=warning noreboot=0 spec-ctrl=no xpti=no smap=no smep=no dom0_mem=768M dom0_max_vcpus=1 dom0_vcpus_pin" \
	-serial "file:$T/dom0.console.log" -serial "file:$T/dom0.out" -monitor none \
	-drive "file=$cache/xen/root.img,format=raw,if=none,id=root,snapshot=on" -device virtio-blk-pci,drive=root,serial=root \
	-drive "file=$T/test.disk,format=raw,if=none,id=test,cache=writeback,discard=unmap" -device virtio-blk-pci,drive=test,serial=test \
	-netdev user,id=n -device virtio-net-pci,netdev=n,romfile= </dev/null >"$T/dom0.qemu.log" 2>&1 &
guest[dom0]=$!
on_exit "guest_kill dom0"
guest_wait_said dom0 '^mounted' "$SLOW"
guest_wait dom0 "$SLOW" || fail "dom0: $(tail -n 40 "$T/dom0.out")"
tr -d '\r\0' <"$T/dom0.out" | grep '^#'

# what this machine sees of it, which is another one
if [ "$BACKEND" = file ]; then
	mkdir -p "$T/disk"
	mount -o loop "$T/test.disk" "$T/disk"
	on_exit "umount $T/disk"
	mount --bind "$T/disk/bucket" "$T/bucket"
	on_exit "umount $T/bucket"
fi
mount_lsvdfs h 'images=vm/*'
for i in "$T"/h/vm/*; do
	"$LSVDFS" image check --data "$i" >"$T/check.log" 2>&1 || fail "check of $i: $(cat "$T/check.log")"
	attach_loop img "$i"
	e2fsck -p "$loop_img" >"$T/fsck.log" 2>&1 || [ $? = 1 ] || fail "fsck of $i: $(cat "$T/fsck.log")"
	e2fsck -fn "$loop_img" >"$T/fsck.log" 2>&1 || fail "fsck of $i: $(cat "$T/fsck.log")"
	detach_loop img
done
wait_for 60 images_idle h
finish
