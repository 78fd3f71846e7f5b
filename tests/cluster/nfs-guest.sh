#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# The first process of the guest of test_nfs.py. The guest is a server of NFS,
# and two hosts a and b that mount it, each with a network and a name of its
# own. It reads scripts, one a line in base64, from a port, and answers each
# with its status and what it printed. The scripts have the functions below:
# the commands are busybox's.

export PATH=/bin
NFS_OPTIONS=${NFS_OPTIONS:-vers=4.2,hard,lookupcache=none,actimeo=1}

# on HOST COMMAND...: runs it on that host.
on()
{
	local host=$1
	shift
	nsenter -t "$(cat "/run/$host.pid")" -n -u "$@"
}

# until_true SECONDS COMMAND...: waits until it succeeds.
until_true()
{
	local left=$(($1 * 10))
	shift
	until "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || { echo "not in time: $*"; return 1; }
		usleep 100000
	done
}

mounted()
{
	grep -q " $1 $2" /proc/mounts
}

# snapfs_up HOST STORE [OPTION]: a mount of a store of the cluster, at
# /HOST/snaps. Fails, and prints why, if there is none.
snapfs_up()
{
	local host=$1 store=$2 options=${3:-allow_other}
	# shellcheck disable=SC2016 # that shell's own
	on "$host" setsid sh -c 'echo $$ >"/run/$1.snapfs"
		exec mount.snapfs -f "/$1/cluster/$2" "/$1/snaps" -o "$3"' \
		mount "$host" "$store" "$options" >"/run/$host.log" 2>&1 </dev/null &
	until mounted "/$host/snaps" fuse; do
		[ -d "/proc/$!" ] || { cat "/run/$host.log"; return 1; }
		usleep 50000
	done
	ls "/$host/snaps" >/dev/null
}

# snapfs_down HOST: unmounts, and waits for the end of the daemon.
snapfs_down()
{
	umount "/$1/snaps" || return 1
	until_true 60 eval "! pidof mount.snapfs | grep -qw $(cat "/run/$1.snapfs")"
}

# clean_up: no mount of snapfs is left, whatever a test has left open.
clean_up()
{
	local host
	for host in a b; do
		if mounted "/$host/snaps" fuse && ! snapfs_down $host; then
			umount -l "/$host/snaps"
			kill -9 "$(cat "/run/$host.snapfs")"
		fi
	done
}

# hold HOST FILE NAME: a process of that host opens a file and reads its first
# bytes, and the others when release NAME is called, which prints the sum.
hold()
{
	mkfifo "/run/$3.go" "/run/$3.sum"
	on "$1" sh -c "exec 3<'$2' && head -c 65536 <&3 >/run/$3.head &&
		>/run/$3.open && read -r _ </run/$3.go &&
		cat /run/$3.head - <&3 >/run/$3.bytes; status=\$?; exec 3<&-
		sha256sum </run/$3.bytes >/run/$3.sum; exit \$status" \
		>"/run/$3.err" 2>&1 </dev/null &
	until_true 30 test -e "/run/$3.open"
}

# release NAME: it reads on, and not what the kernel has kept.
release()
{
	local sum
	echo 3 >/proc/sys/vm/drop_caches
	echo go >"/run/$1.go"
	read -r sum _ <"/run/$1.sum"
	echo "$sum"
	cat "/run/$1.err"
	rm -f "/run/$1".*
}

# save HOST NAME STREAM: writes a stream, and says what close(2) said.
save()
{
	mkdir -p "/$1/snaps/$2"
	on "$1" dd if="/streams/$3" of="/$1/snaps/$2/stream" bs=128k conv=fsync 2>&1 |
		grep -v records
	[ -s "/$1/snaps/$2/ram" ]
}

# begin_save HOST NAME STREAM: writes half of it; finish_save writes the rest,
# and prints what fails.
begin_save()
{
	local half=$(($(stat -c %s "/streams/$3") / 2))
	mkdir -p "/$1/snaps/$2"
	rm -f /run/save.*
	mkfifo /run/save.go
	{ head -c $half "/streams/$3"; read -r _ </run/save.go
		tail -c +$((half + 1)) "/streams/$3"; } |
		{ on "$1" dd of="/$1/snaps/$2/stream" bs=128k iflag=fullblock conv=fsync
			echo "status $?"; } >/run/save.said 2>&1 &
	until_true 60 eval "find /srv/*/.snapfs/tmp -type f | grep ."
}

finish_save()
{
	echo go >/run/save.go
	until_true 120 grep -q status /run/save.said
	grep -v records /run/save.said
}

sum()
{
	sha256sum <"$1" | cut -d ' ' -f 1
}

# ---- what the first process does ----

start_host()
{
	local host=$1 number=$2 pid
	unshare -n -u sh -c "hostname host-$host; exec sleep 1000000" &
	pid=$!
	echo $pid >"/run/$host.pid"
	until_true 30 eval "[ \"\$(on $host hostname)\" = host-$host ]"
	ip link add name "to-$host" type veth
	ip link set dev veth0 netns $pid
	ip addr add "10.0.$number.1/24" dev "to-$host"
	ip link set "to-$host" up
	on "$host" ip addr add "10.0.$number.2/24" dev veth0
	on "$host" ip link set veth0 up
	on "$host" ip link set lo up
	mkdir -p "/$host/cluster" "/$host/snaps"
}

# What rpc.mountd answers the kernel's questions with, told before it asks.
# 9218: by fsid, and any port, and no check of folders above a file.
export_disk()
{
	local never=2147483647 host
	for host in 1 2; do
		echo "nfsd 10.0.$host.2 $never hosts" \
			>/proc/net/rpc/auth.unix.ip/channel
	done
	echo "hosts /srv $never 9218 -2 -2 0" >/proc/net/rpc/nfsd.export/channel
	printf '%s\n' "hosts 1 \\x00000000 $never /srv" \
		>/proc/net/rpc/nfsd.fh/channel
}

# It forgets what it exports when it stops.
serve()
{
	export_disk
	echo 'tcp 2049' >/proc/fs/nfsd/portlist
	echo 4 >/proc/fs/nfsd/threads
}

start_server()
{
	mkdir -p /srv /var/lib/nfs/v4recovery
	mount -t ext4 /dev/vda /srv
	mount -t nfsd nfsd /proc/fs/nfsd
	echo 15 >/proc/fs/nfsd/nfsv4leasetime
	echo 15 >/proc/fs/nfsd/nfsv4gracetime
	echo '-2 -3 +4 +4.1 +4.2' >/proc/fs/nfsd/versions
	serve
	echo Y >/proc/fs/nfsd/v4_end_grace
}

mount_cluster()
{
	on "$1" mount -t nfs4 -o \
		"$NFS_OPTIONS,addr=10.0.$2.1,clientaddr=10.0.$2.2" \
		"10.0.$2.1:/" "/$1/cluster"
}

answer_scripts()
{
	local line status
	exec 3<>/dev/vport0p1
	while read -r line <&3; do
		{
			echo '. /init'
			echo "$line" | base64 -d
		} >/run/script
		timeout -s KILL 150 sh /run/script >/run/said 2>&1 </dev/null
		status=$?
		echo "$status $(base64 -w 0 /run/said)" >&3
	done
}

boot()
{
	local module
	/bin/busybox --install -s /bin
	mount -t devtmpfs dev /dev
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	while read -r module; do
		insmod "/modules/$module" || echo "no $module"
	done </modules/order
	ip link set lo up
	hostname server
	until_true 30 test -b /dev/vda
	until_true 30 test -c /dev/vport0p1
	start_server
	start_host a 1
	start_host b 2
	mount_cluster a 1
	mount_cluster b 2
	until_true 60 mounted /b/cluster nfs4 && echo 'the hosts are up'
	answer_scripts
}

if [ $$ -eq 1 ]; then
	exec >/dev/console 2>&1
	boot
fi
