#!/bin/bash
# One comparison three times killed and resumed, and the same one in two parts: are tables, page, pictures the same bytes?
# bash bench/verify/killed_and_in_parts.sh GALEN; the dataset lies beside the protocol (see its [[dataset]]).
galen=$(realpath "$1"); cd "$(dirname "$0")" || exit 1
rm -rf cut part1 part2 merged
for seconds in 60 100 160; do
    "$galen" verify hippocampus.toml --out cut -q & process=$!
    sleep $seconds
    kill -9 $process && echo "killed after $seconds s"
    wait $process 2>/dev/null
done
set -e
"$galen" verify hippocampus.toml --out cut
"$galen" verify hippocampus.toml --out part1 --shard 1/2
"$galen" verify hippocampus.toml --out part2 --shard 2/2
"$galen" verify hippocampus.toml --out merged --merge part1,part2
for file in leaderboard.csv leaderboard.tex leaderboard.html cases.csv models.csv results pictures figures; do
    diff -rq cut/$file merged/$file && echo "$file: the same"
done
