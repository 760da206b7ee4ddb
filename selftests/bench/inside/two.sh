# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
# Two namespaces, client and server, and a link between them.
ip netns add client
ip netns add server
ip link add eth0 netns client type veth peer name eth0 netns server
for n in client:9 server:1; do
	ip -n ${n%:*} addr add 10.0.0.${n#*:}/24 dev eth0
	ip -n ${n%:*} addr add fd00::${n#*:}/64 dev eth0 nodad
	ip -n ${n%:*} link set lo up
	ip -n ${n%:*} link set eth0 up
done
ip netns exec client ping -qc1 10.0.0.1
ip netns exec client ping -qc1 fd00::1
