#!/usr/bin/env bash
# test_tidy.sh - the rules of the source hold, and the checker of the rules finds what it should.
set -euo pipefail
cd "$(dirname "$0")/../.."
ops/tidy.sh --self
ops/tidy.sh
