# First process of a node: lives in namespaces of its own (mounts, processes, network, host name), so that nothing it or
# its children mount, start or configure reaches the machine; when it ends, the kernel ends and unmounts all of it.
# $1: a directory for the node's files, $2: the file that tells our process id, as the machine sees it.
set -eu
# /proc is still the machine's: the shell itself opens the file, so this is the shell's own process id outside.
read -r id rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock /run/lib
# kubelet and CNI insist on places below /var/lib, which may not exist and must not be made on the machine. So /var/lib
# becomes a directory of ours that shows all that was there; the checkout itself may lie in it.
mount -t tmpfs tmpfs /run/lib
for entry in /var/lib/*; do
    shown="/run/lib/${entry##*/}"
    if [ -d "$entry" ] && [ ! -L "$entry" ]; then
        mkdir "$shown"
        mount --rbind "$entry" "$shown"
    fi
done
mkdir -p /run/lib/kubelet /run/lib/cni
mount --move /run/lib /var/lib
mount -t tmpfs tmpfs /var/log
mkdir -p /var/log/pods /var/log/containers
for shadowed in /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
    mkdir -p "$1$shadowed"
    mount --bind "$1$shadowed" "$shadowed"
done
mount --make-rshared /
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo "$id" >"$2.part"
mv "$2.part" "$2"
# Orphans come to us; a shell that waits reaps them.
while :; do
    sleep 1000 &
    wait $!
done
