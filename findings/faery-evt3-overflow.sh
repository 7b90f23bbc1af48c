#!/bin/sh
# faery 0.7.1 (numpy 2.4.6): EVT3 recordings of more than 16.8 s do not survive a round trip.
#
# The time of EVT 3.0 has 24 bits and overflows after 2^24 µs. faery writes the upper 12 bits only
# where an event needs them, so they can fall from 4093 to 2 at an overflow. Its decoder takes only
# some falls for an overflow. After the others its times stand still for up to as long as the
# recording lasts, without an error. Prophesee's OpenEB takes every fall by at least half of the
# range for an overflow (evt3_decoder.h: high >= 2^11 + new). evlib 0.13.2 reads the file with one
# event each 10 ms as it was written. faery's EVT2 and DAT files, and EVT3 files of dense events,
# come back as they were. The user sees the same number of events, in order.
#
# Output seen (20 s of events at regular times, written and read by faery):
#   evt3, an event each 1000 µs: 0 of 20000 times differ, the last is 19999000
#   evt3, an event each 10000 µs: 322 of 2000 times differ, the last is 16773104
#   evt2, an event each 10000 µs: 0 of 2000 times differ, the last is 19990000
#   evt3 by evlib, an event each 10000 µs: 0 of 2000 times differ, the last is 19990000
#
# Exits with 0 if faery behaves like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet numpy==2.4.6 faery==0.7.1 evlib==0.13.2
cat > "$dir/run.py" <<'PY'
import sys

import evlib
import faery
import numpy as np


def show(what, micros, got, want):
    wrong = int((got != want).sum())
    print(f"{what}, an event each {micros} µs: {wrong} of {len(want)} times differ, the last is {got[-1]}")
    return wrong


def write(version, micros):
    events = np.zeros(20_000_000 // micros, dtype=faery.EVENTS_DTYPE)
    events["t"], events["x"], events["y"] = np.arange(len(events)) * micros, 5, 6
    path = f"{sys.argv[1]}/{version}-{micros}.raw"
    faery.events_stream_from_array(events, (64, 48)).to_file(path, version=version, zero_t0=False)
    return path, events["t"].astype(np.int64)


def round_trip(version, micros):
    path, want = write(version, micros)
    got = np.concatenate(list(faery.events_stream_from_file(path)))["t"].astype(np.int64)
    return show(version, micros, got, want)


dense, sparse, evt2 = round_trip("evt3", 1000), round_trip("evt3", 10_000), round_trip("evt2", 10_000)
path, want = write("evt3", 10_000)
other = evlib.load_events(path).collect()["t"].dt.total_microseconds().to_numpy()
other = show("evt3 by evlib", 10_000, other, want)
sys.exit(0 if dense == 0 and sparse > 0 and evt2 == 0 and other == 0 else 1)
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir"
