import json, subprocess, sys, os, re, time
from site_ns import Site
more = sys.argv[1]
site = Site("a", "b", before="CLIENTS=(client)" if True else "")
with open(site.www / "1KiB", "wb") as f: f.truncate(1024)
site.run(f"SERVICE_MORE='{more}'")
site.run("for n in a b; do serve $n; daemon_start $n; until_true 20 test -S $SITE/$n.sock; done")
site.run("until_true 30 owns a; until_true 20 in_ns client curl -sf -o /dev/null http://$V4/1KiB")
def procs():
    out = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                for t in os.listdir(f"/proc/{p}/task"):
                    s = open(f"/proc/{p}/task/{t}/stat").read()
                    name = s[s.index("(")+1:s.rindex(")")]
                    f = s[s.rindex(")")+2:].split()
                    ns = os.readlink(f"/proc/{p}/ns/net")
                    st = open(f"/proc/{p}/task/{t}/status").read()
                    vol = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", st, re.M)[1])
                    run = int(open(f"/proc/{p}/task/{t}/schedstat").read().split()[0])
                    out[(p, t, name, ns)] = (int(f[11]), int(f[12]), vol, run)
            except (FileNotFoundError, ProcessLookupError):
                pass
    return out
for c in (1, 8):
    a = procs()
    o = subprocess.run(f"ip netns exec client wrk -t1 -c{c} -d1s --latency http://10.0.0.80/1KiB", shell=True, capture_output=True, text=True).stdout
    b = procs()
    n = int(re.search(r"(\d+) requests in", o)[1])
    print(json.dumps({"c": c, "n": n, "rate": re.search(r"Requests/sec:\s+([\d.]+)", o)[1], "p50": re.search(r"50%\s+(\S+)", o)[1]}), flush=True)
    for k, v in b.items():
        w = a.get(k, (0, 0, 0, 0))
        d = [x - y for x, y in zip(v, w)]
        if d[3] > 2_000_000:
            print(json.dumps({"p": k[2], "pid": k[0], "tid": k[1], "ns": k[3][-5:], "us_per_req": round(d[3] / 1000 / n, 1), "u": d[0], "s": d[1], "vol_per_req": round(d[2] / n, 2)}), flush=True)
    print(json.dumps({"stats": site.run("in_ns a holdfast stats").split("\n")}), flush=True)
site.close()
