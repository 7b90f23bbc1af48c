#!/bin/sh
# expelliarmus 1.1.12 (numpy 2.4.6): an EVT3 recording with an external trigger gives None.
#
# Prophesee's cameras mark edges of a trigger input by words of type 0xA, EXT_TRIGGER
# (https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html). Wizard(encoding="evt3").read
# returns None for a file with one such word, after all its events, and a message on standard
# error. The events before it are lost, too. faery 0.7.1 and evlib 0.13.2 skip the word, and so
# does expelliarmus itself in an EVT2 file.
#
# Output seen:
#   ERROR: event type not recognised: 0xa.
#   evt3 without a trigger: 60 events
#   evt3 with a trigger: None; faery 60 events, evlib 60
#   evt2 with a trigger: 60 events
#
# Exits with 0 if expelliarmus behaves like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet numpy==2.4.6 expelliarmus==1.1.12 faery==0.7.1 evlib==0.13.2
cat > "$dir/run.py" <<'PY'
import struct
import sys

import evlib
import expelliarmus
import faery

n = 60
evt3 = [0x8000]  # upper time; then lower time, row and column of each event
for i in range(n):
    evt3 += [0x6000 | i, i, 0x2000 | i]
evt2 = [8 << 28]
for i in range(n):
    evt2.append(1 << 28 | (i % 64) << 22 | i << 11 | i)


def read(encoding, code, words):
    path = f"{sys.argv[1]}/{encoding}.raw"
    version = {"evt3": "3.0", "evt2": "2.0"}[encoding]
    with open(path, "wb") as f:
        f.write(f"% evt {version}\n% geometry 640x480\n% end\n".encode() + struct.pack(f"<{len(words)}{code}", *words))
    events = expelliarmus.Wizard(encoding=encoding).read(path)
    return (None if events is None else len(events)), path


plain, _ = read("evt3", "H", evt3)
trigger, path = read("evt3", "H", evt3 + [0xA001])
peer = sum(len(p) for p in faery.events_stream_from_file(path))
other = evlib.load_events(path).collect().height
two, _ = read("evt2", "I", evt2 + [0xA << 28 | 1])
print(f"evt3 without a trigger: {plain} events")
print(f"evt3 with a trigger: {trigger}; faery {peer} events, evlib {other}")
print(f"evt2 with a trigger: {two} events")
sys.exit(0 if (plain, trigger, peer, other, two) == (n, None, n, n, n) else 1)
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir"
