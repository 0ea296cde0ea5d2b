"""Job files of `galen batch kubernetes`, checked against the schema of Kubernetes' own API.

Needs kubernetes-validate, which brings the schemas. `sbatch --test-only` does the same for Slurm where there is a cluster.

    python goldens/check_jobs.py --galen target/release/galen
"""
import argparse
import json
import subprocess

import kubernetes_validate

CALLS = [[], ["--volume", "claim-1"], ["--memory", "800M", "--cores", "1", "--name", "a-b"], ["--parts", "1"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galen", required=True)
    galen = parser.parse_args().galen
    for more in CALLS:
        parts = [] if "--parts" in more else ["--parts", "8"]
        command = [galen, "batch", "kubernetes", "--image", "registry.example/galen:1", *parts, *more, "--",
                   "predict", "in", "--model", "it's a model", "--out", "out"]
        job = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        version = kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        print("valid for Kubernetes", version, *more)


main()
