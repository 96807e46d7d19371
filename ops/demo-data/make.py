#!/usr/bin/env python3
"""Makes the demo's excerpt from the complete Amazon Beauty 2014 5-core set.

    make.py INTERACTIONS ITEMS [OUT]

INTERACTIONS: a table (.tsv, .tsv.xz) with the columns user_id item_id rating unix_time, in time order.
ITEMS: a table with the columns item_id title. OUT: the folder to write to (default: this one).

Kept are the rows of the last 730 days whose item has a title, and of these the greatest part in which
every user and every item has at least 8 rows (so that people have neighbours, and items have raters).
Nothing is changed in a row that is kept, and rows keep their order. The same input gives the same bytes.
"""
import collections
import lzma
import os
import sys

DAYS = 730
ROWS_MIN = 8


def open_table(path):
    opener = lzma.open if path.endswith(".xz") else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as table:
        header = table.readline().rstrip("\n").split("\t")
        return header, [line.rstrip("\n").split("\t") for line in table]


def write_table(path, header, rows):
    text = "".join("\t".join(fields) + "\n" for fields in [header] + rows)
    with open(path, "wb") as out:
        out.write(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path}: {len(rows)} rows, {os.path.getsize(path)} bytes")


def dense_part(rows):
    while True:
        users = collections.Counter(row[0] for row in rows)
        items = collections.Counter(row[1] for row in rows)
        kept = [row for row in rows if users[row[0]] >= ROWS_MIN and items[row[1]] >= ROWS_MIN]
        if len(kept) == len(rows):
            return kept
        rows = kept


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    out = sys.argv[3] if len(sys.argv) == 4 else os.path.dirname(os.path.abspath(__file__))
    header, rows = open_table(sys.argv[1])
    items_header, items = open_table(sys.argv[2])
    if header != ["user_id", "item_id", "rating", "unix_time"] or items_header != ["item_id", "title"]:
        sys.exit("make.py: the tables have other columns than expected")
    titles = {item[0]: item[1] for item in items}
    since = int(rows[-1][3]) - DAYS * 86400
    rows = dense_part([row for row in rows if int(row[3]) >= since and titles.get(row[1])])
    used = {row[1] for row in rows}
    write_table(os.path.join(out, "beauty_interactions.tsv.xz"), header, rows)
    write_table(os.path.join(out, "beauty_items.tsv.xz"), items_header, [item for item in items if item[0] in used])


if __name__ == "__main__":
    main()
