import sys
sys.path.insert(0, "/holdfast/selftests")
from vm.host import enter_root, build
from bench import guestside
for m in sys.argv[1:]:
    print(m, flush=True)
    guestside.lines(f"prof.py '{m}'", 300, "prof", mem=2048)
