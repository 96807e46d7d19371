#!/usr/bin/env python3
"""The manual page: free of warnings, and it names exactly the commands, options and exit codes there are."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXITPOLL = os.environ.get("EXITPOLL") or (sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "build" / "exitpoll"))
PAGE = ROOT / "ops" / "man" / "exitpoll.1"
COMMON = {"--help", "--usage", "--version"}
problems = []


def check(condition, message):
    if not condition:
        problems.append(message)


def output(*command, code=0):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    check(code is None or done.returncode == code, f"{' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout, done.stderr


def plain(roff):
    """The text without comments and escapes that matter here."""
    lines = [line for line in roff.splitlines() if not line.startswith('.\\"')]
    return "\n".join(lines).replace("\\-", "-").replace("\\(aq", "'")


def sections(text, macro):
    """{title: text} of the parts that begin with this macro."""
    parts = re.split(rf"^\.{macro} (.*)$", text, flags=re.M)
    return {parts[i].strip().strip('"'): parts[i + 1] for i in range(1, len(parts), 2)}


def options_of(text):
    return set(re.findall(r"--[a-z][a-z-]*", text)) - COMMON


def tagged(text):
    """Options that have a paragraph of their own."""
    return set(re.findall(r"^\.TP\n\.(?:BI|B|BR) (--[a-z][a-z-]*)", text, re.M)) - COMMON


def check_format():
    tools = 0
    if shutil.which("groff"):
        tools += 1
        _, errors = output("groff", "-man", "-ww", "-z", "-Tutf8", PAGE)
        check(not errors, f"groff: {errors}")
    if shutil.which("mandoc"):
        tools += 1
        # Style advice, such as a missing date, is none of our business.
        found, errors = output("mandoc", "-T", "lint", "-W", "warning", PAGE, code=None)
        found = "".join(line for line in found.splitlines(True) if "missing date" not in line)
        check(not found and not errors, f"mandoc: {found}{errors}")
    if not tools:
        print("neither groff nor mandoc is here: the format is not checked")


def main():
    text = plain(PAGE.read_text())
    top = sections(text, "SH")
    commands = sections(top["COMMANDS"], "SS")
    help_text, _ = output(EXITPOLL, "--help")
    listed = set(re.findall(r"^  ([a-z-]+) +\S", help_text, re.M))
    check(listed, "--help lists no commands")
    check(listed == set(commands), f"commands: --help has {sorted(listed)}, the page {sorted(commands)}")
    for command in sorted(listed & set(commands)):
        said, _ = output(EXITPOLL, command, "--help")
        # Options stand at the start of a line, after the short one if there is any.
        there = set(re.findall(r"^ +(?:-., )?(--[a-z][a-z-]*)", said.split("\nExamples:")[0], re.M)) - COMMON
        check(there, f"{command}: --help shows no options")
        check(there == tagged(commands[command]),
              f"{command}: only in --help {sorted(there - tagged(commands[command]))}, only on the page "
              f"{sorted(tagged(commands[command]) - there)}")
        strange = options_of(commands[command]) - tagged(commands[command]) - there
        check(not strange, f"{command}: the page speaks of {sorted(strange)}")
    # Every option in an example is one of its command.
    for line in re.findall(r"^exitpoll .*(?:\\e\n.*)*", top["EXAMPLES"], re.M):
        command = line.split()[1]
        extra = options_of(line) - tagged(commands.get(command, ""))
        check(not extra, f"example of {command}: {sorted(extra)}")
    # Exit codes: those of the table of statuses, and of a second signal.
    codes = {int(code) for code in re.findall(r"X\(\w+, +\w+, +(\d+),", (ROOT / "base" / "status.h").read_text())}
    shown = {int(code) for line in re.findall(r"^\.TP\n\.BR? (\d.*)$", top["EXIT STATUS"], re.M)
             for code in re.findall(r"\d+", line)}
    check(len(codes) > 10 and codes | {130, 143} == shown,
          f"exit codes: {sorted(codes - shown)} missing, {sorted(shown - codes - {130, 143})} unknown")
    version, _ = output(EXITPOLL, "--version")
    check(f'"{version.strip()}"' in text, f"the page is not of {version.strip()}")
    settings, _ = output(EXITPOLL, "run", "--help-settings")
    for name in set(re.findall(r"\b(?:graph|http|state|instance)\.[a-z_]+\b", text)):
        check(f"  {name} " in settings, f"the page speaks of the setting {name}")
    check_format()
    for problem in problems:
        print(f"FAILED  {problem}")
    if not problems:
        print(f"ok      {len(commands)} commands, {sum(len(tagged(c)) for c in commands.values())} options, "
              f"{len(shown)} exit codes")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
