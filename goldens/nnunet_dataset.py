"""Reference run of nnunetv2 on an MSD dataset: fingerprint, plans, folds, preprocessed cases.

Writes <out>/nnunet/datasets/DatasetNNN_Name in the layout that Galen's golden tests read:
raw/, dataset_fingerprint.json, nnUNetPlans.json, splits_final.json, preprocessed_<configuration>/.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def preprocess(msd: Path, dataset_id: int, work: Path) -> str:
    """Runs nnU-Net's own conversion, planning and preprocessing in `work`; returns the dataset's name."""
    name = json.loads((msd / "dataset.json").read_text())["name"]
    task = work / f"Task{dataset_id:02d}_{name}"
    shutil.copytree(msd, task)
    (task / "imagesTs").mkdir(exist_ok=True)
    binaries = Path(sys.executable).parent
    run = lambda *command: subprocess.run([str(binaries / command[0]), *command[1:]], check=True)
    run("nnUNetv2_convert_MSD_dataset", "-i", str(task), "-np", "2")
    run("nnUNetv2_plan_and_preprocess", "-d", str(dataset_id), "-np", "2", "-npfp", "2", "-c", "3d_fullres", "--no_pbar")
    for planner in ("nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL"):
        run("nnUNetv2_plan_experiment", "-d", str(dataset_id), "-pl", planner)
    return f"Dataset{dataset_id:03d}_{name}"


def folds(cases: list[str]) -> list[dict]:
    """The five folds as nnU-Net's trainer makes them."""
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    return generate_crossval_split(cases, seed=12345, n_splits=5)


def describe(folder: Path, out: Path, keep: str) -> None:
    """One decoded case and the statistics of all of them."""
    import blosc2
    import numpy as np

    statistics = {}
    for file in sorted(folder.glob("*.pkl")):
        case = file.stem
        data = blosc2.open(urlpath=str(folder / f"{case}.b2nd"), mode="r")[:]
        seg = blosc2.open(urlpath=str(folder / f"{case}_seg.b2nd"), mode="r")[:]
        values, counts = np.unique(seg, return_counts=True)
        statistics[case] = {
            "shape": list(data.shape),
            "mean": [float(c.mean(dtype=np.float64)) for c in data],
            "std": [float(c.std(dtype=np.float64)) for c in data],
            "seg_histogram": {str(int(v)): int(n) for v, n in zip(values, counts)},
        }
        if case == keep:
            np.savez_compressed(out / f"{case}.npz", data=data, seg=seg.astype(np.int8))
            properties = np.load(file, allow_pickle=True)
            (out / f"{case}_properties.json").write_text(json.dumps(plain(properties), indent=1))
    (out / "all_cases_statistics.json").write_text(json.dumps(statistics, indent=1))


def plain(properties: dict) -> dict:
    """Properties as JSON; of the foreground positions, their number, the first five and the sums."""
    locations = properties["class_locations"]
    summary = {
        str(key): {"count": len(rows), "first5": [list(map(int, row)) for row in rows[:5]], "sum": [int(c.sum()) for c in rows.T]}
        for key, rows in locations.items()
        if len(rows)
    }
    return {
        "spacing": [float(s) for s in properties["spacing"]],
        "shape_before_cropping": list(map(int, properties["shape_before_cropping"])),
        "bbox_used_for_cropping": [list(map(int, b)) for b in properties["bbox_used_for_cropping"]],
        "shape_after_cropping_and_before_resampling": list(
            map(int, properties["shape_after_cropping_and_before_resampling"])
        ),
        "class_locations_summary": summary,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--msd", type=Path, required=True)
    parser.add_argument("--id", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for variable, name in (("nnUNet_raw", "raw"), ("nnUNet_preprocessed", "pre"), ("nnUNet_results", "res")):
            (work / name).mkdir()
            os.environ[variable] = str(work / name)
        dataset = preprocess(arguments.msd, arguments.id, work)
        source = work / "pre" / dataset
        target = arguments.out / "nnunet" / "datasets" / dataset
        shutil.rmtree(target, ignore_errors=True)
        prepared = target / "preprocessed_3d_fullres"
        prepared.mkdir(parents=True)
        shutil.copytree(work / "raw" / dataset, target / "raw")
        for file in ["dataset_fingerprint.json", *(f.name for f in source.glob("nnUNet*Plans.json"))]:
            shutil.copy(source / file, target / file)
        cases = sorted(f.stem for f in (source / "nnUNetPlans_3d_fullres").glob("*.pkl"))
        (target / "splits_final.json").write_text(json.dumps(folds(cases), indent=4))
        describe(source / "nnUNetPlans_3d_fullres", prepared, cases[0])


if __name__ == "__main__":
    main()
