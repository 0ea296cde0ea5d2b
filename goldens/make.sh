#!/usr/bin/env bash
# Makes reference files with the peers' own packages, outside the repository.
#   ORACLES   virtual environment to use or make (default: ~/.cache/galen-oracles)
#   OUT       where the references go             (default: ../galen-goldens beside the repository)
#   MSD       the Decathlon's Hippocampus folder  (default: ../shared/data/msd_hippocampus)
# Then:  GALEN_GOLDENS=$OUT cargo test --release golden
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
oracles=${ORACLES:-$HOME/.cache/galen-oracles}
out=${OUT:-$here/../../galen-goldens}
msd=${MSD:-$here/../../shared/data/msd_hippocampus}

if [ ! -x "$oracles/bin/python" ]; then
  python3 -m venv "$oracles"
  "$oracles/bin/pip" install --quiet nnunetv2==2.8.1 nibabel SimpleITK
fi
mkdir -p "$out"
"$oracles/bin/python" "$here/nnunet_dataset.py" --msd "$msd" --id 4 --out "$out"
