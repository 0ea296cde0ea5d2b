"""Arrays in Blosc2 frames with every codec and filter that Galen reads, beside what numpy holds.

Writes <out>/blosc2/NAME.b2nd and NAME.b2nd.npy. Sizes are no multiples of chunks and blocks, so that padding occurs on
every axis; `constant` has chunks that are one value. Needs blosc2 and numpy.

    python goldens/blosc2_arrays.py --out ../galen-goldens
    GALEN_GOLDENS=../galen-goldens cargo test --release -p galen-data golden_blosc2
"""
import argparse
from pathlib import Path

import blosc2
import numpy as np


def write(folder, name, array, chunks, blocks, **cparams):
    path = folder / f"{name}.b2nd"
    path.unlink(missing_ok=True)
    blosc2.asarray(array, chunks=chunks, blocks=blocks, urlpath=str(path), cparams=cparams)
    np.save(f"{path}.npy", array)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out / "blosc2"
    folder.mkdir(parents=True, exist_ok=True)
    image = (np.random.default_rng(1).normal(size=(2, 13, 21, 17)) * 100).round().astype(np.float32)
    arrays = {"f4": image, "i2": (image[:1] / 30).astype(np.int16), "u1": (image[0] > 60).astype(np.uint8)}
    codec, kind = blosc2.Codec, blosc2.Filter
    for code in (codec.LZ4HC, codec.LZ4, codec.ZSTD, codec.BLOSCLZ, codec.ZLIB):
        for kept in (kind.SHUFFLE, kind.NOFILTER, kind.BITSHUFFLE):
            for name, array in arrays.items():
                n = array.ndim
                write(folder, f"{code.name}_{kept.name}_{name}".lower(), array, (1, 8, 12, 9)[-n:], (1, 4, 6, 9)[-n:],
                      codec=code, clevel=5, filters=[kept], filters_meta=[0])
    constant = np.zeros((1, 13, 21, 17), np.float32)
    constant[0, 3, 3, 3] = 1
    constant[0, 8:] = -2.5
    write(folder, "constant", constant, (1, 4, 7, 17), (1, 2, 7, 8))
    write(folder, "small", np.arange(60, dtype=np.int16).reshape(3, 4, 5), (2, 3, 5), (1, 2, 4), codec=codec.LZ4HC,
          filters=[kind.SHUFFLE], filters_meta=[0])


main()
