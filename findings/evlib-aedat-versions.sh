#!/bin/sh
# evlib 0.13.2: valid AEDAT 2.0 and 3.1 files give no events, and no error.
#
# detect_format calls a file with the line #!AER-DAT2.0 "AEDAT 3.1", and load_events returns an
# empty table for it. A file of AEDAT 3.1 is recognised, but its packets are not read: the result is
# empty, too. tonic 1.7.0 reads the AEDAT 2.0 file. A user who converts a folder of recordings, such as
# DVS128 Gesture, gets empty recordings.
# The formats: https://docs.inivation.com/software/software-advanced-usage/file-formats/
#
# Output seen (300 events in each file):
#   AEDAT 2.0: evlib detects AEDAT 3.1 and reads 0 events; tonic reads 300
#   AEDAT 3.1: evlib detects AEDAT 3.1 and reads 0 events; the packets hold 300
#
# Exits with 0 if evlib behaves like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet evlib==0.13.2 tonic==1.7.0
cat > "$dir/run.py" <<'PY'
import struct
import sys

import evlib
import tonic.io

n, folder = 300, sys.argv[1]
head2 = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346B\r\n"
body2 = b"".join(struct.pack(">II", (i % 260) << 22 | (i % 346) << 12 | 1 << 11, 1000 * i) for i in range(n))
head3 = (b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n"
         b"#Start-Time: 2017-01-01 00:00:00 (TZ+0000)\r\n#!END-HEADER\r\n")
packets = []
for part in range(2):  # type, source, size, time offset, overflow, capacity, number, valid
    packets.append(struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, n // 2, n // 2, n // 2))
    for i in range(part * n // 2, (part + 1) * n // 2):
        packets.append(struct.pack("<II", (i % 128) << 17 | (i % 64) << 2 | 3, 1000 * i))
counts, formats = [], []
for name, content in ("2.aedat", head2 + body2), ("3.aedat", head3 + b"".join(packets)):
    with open(f"{folder}/{name}", "wb") as f:
        f.write(content)
    formats.append(evlib.detect_format(f"{folder}/{name}")[0])
    counts.append(evlib.load_events(f"{folder}/{name}").collect().height)
peer = len(tonic.io.read_davis_346(f"{folder}/2.aedat")[2])
print(f"AEDAT 2.0: evlib detects {formats[0]} and reads {counts[0]} events; tonic reads {peer}")
print(f"AEDAT 3.1: evlib detects {formats[1]} and reads {counts[1]} events; the packets hold {n}")
sys.exit(0 if counts == [0, 0] and formats == ["AEDAT 3.1"] * 2 and peer == n else 1)
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir"
