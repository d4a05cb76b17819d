#!/bin/sh
# Train the shipped weights again: sh models/training/shipped_runs.sh PHOTOS RUNS
#
# PHOTOS has two folders, photos and photos2, with the pictures of models/artifacts/promptnaf/photos.tsv; RUNS/2 has the weights to
# start from. Runs 1 and 2 (73 minutes) were made with a forerunner of this code. As runs follow the clock, another machine makes
# other weights. Run 4 came before rain_jpeg and haze_jpeg, runs 3 and 4 before the loss of today. NOISE_LEVEL_ODDS were (0.45, 0.33,
# 0.22) until run 8, and (0.3, 0.3, 0.4) in runs 9 and 10.
set -eu
photos=$1 runs=$2

fit() {
    run=$1 from=$2
    shift 2
    promptir-train fit "$photos/photos" "$photos/photos2" --output "$runs/$run" --init "$runs/$from/weights.safetensors" \
        --threads 1 --ema-decay 0.9985 "$@"
}

average() {
    mkdir -p "$runs/$3"
    promptir-train average "$runs/$1/weights.safetensors" "$runs/$2/weights.safetensors" --variant "$4" \
        --output "$runs/$3/weights.safetensors" --share "${5-0.5}"
}

fit 3 2 --variant promptnaf-shallow --minutes 60 --stages 0.25:64x8 0.65:96x4 0.87:128x3 1:192x2 --learning-rate 1e-3 --warmup-steps 200

fit 4 3 --variant promptnaf-shallow --minutes 122 --stages 0.25:64x8 0.6:96x4 0.85:128x3 1:192x2 --learning-rate 1e-3 --warmup-steps 200 \
    --mix gaussian=0.34 correlated=0.1 flat=0.08 mixture=0.1 rain_jpeg=0 haze_jpeg=0

average 3 4 5 promptnaf-shallow

fit 6 5 --variant promptnaf-shallow --minutes 64 --stages 0.5:96x4 0.85:128x3 1:192x2 --learning-rate 9e-4 --warmup-steps 100 \
    --mix gaussian=0.34 correlated=0.1 flat=0.03 jpeg=0.24 noise_jpeg=0.12 rain=0.08 heavy_rain=0.07 rain_jpeg=0.16 \
    haze=0.12 deep_haze=0.08 haze_jpeg=0.06 clean=0.13 low_contrast=0.05

fit 7 6 --compile --minutes 90 --stages 0.6:96x4 0.85:128x3 1:192x2 --learning-rate 1e-3 --warmup-steps 150 \
    --mix gaussian=0.4 correlated=0.1 flat=0.03 jpeg=0.28 noise_jpeg=0.12 rain=0.07 heavy_rain=0.06 rain_jpeg=0.14 \
    haze=0.14 deep_haze=0.08 haze_jpeg=0.07 clean=0.13 low_contrast=0.05

fit 8a 7 --compile --minutes 12 --stages 1:96x4 --learning-rate 6e-4 --warmup-steps 50 --ema-decay 0.998 --mix gaussian=1

fit 8b 8a --compile --minutes 80 --until 7200 --stages 0.8:96x4 1:192x2 --learning-rate 7e-4 --warmup-steps 50 \
    --mix gaussian=1.6 correlated=0.08 flat=0.03 jpeg=0.5 noise_jpeg=0.14 rain=0.06 heavy_rain=0.08 rain_jpeg=0.24 \
    haze=0.12 deep_haze=0.08 haze_jpeg=0.1 clean=0.13 low_contrast=0.05 mixture=0.06

fit 8c 8b --compile --minutes 42 --stages 0.55:96x4 1:192x2 --learning-rate 4.5e-4 --warmup-steps 30 \
    --mix gaussian=1.3 correlated=0.08 flat=0.03 jpeg=0.4 noise_jpeg=0.14 rain=0.1 heavy_rain=0.12 rain_jpeg=0.26 \
    haze=0.22 deep_haze=0.14 haze_jpeg=0.12 clean=0.15 low_contrast=0.05 mixture=0.08

fit 9a 8c --compile --minutes 86 --stages 0.55:96x4 1:192x2 --learning-rate 8e-4 --warmup-steps 50 \
    --mix gaussian=2.2 correlated=0.06 flat=0.03 jpeg=0.75 noise_jpeg=0.12 rain=0.09 heavy_rain=0.1 rain_jpeg=0.24 \
    haze=0.22 deep_haze=0.14 haze_jpeg=0.12 clean=0.14 low_contrast=0.05 mixture=0.06

fit 9b 9a --compile --minutes 13 --stages 0.6:96x4 1:192x2 --learning-rate 3e-4 --warmup-steps 30 --ema-decay 0.998 \
    --mix gaussian=1.8 correlated=0.05 flat=0.03 jpeg=1.5 noise_jpeg=0.1 rain=0.1 heavy_rain=0.1 rain_jpeg=0.25 \
    haze=0.25 deep_haze=0.14 haze_jpeg=0.12 clean=0.14 low_contrast=0.05 mixture=0.06

average 9a 9b 9c promptnaf

# Runs 10 and 11: two runs at a time, averaged halfway and at the end.
mix="gaussian=2.2 correlated=0.06 flat=0.03 jpeg=1 noise_jpeg=0.12 rain=0.2 heavy_rain=0.1 rain_jpeg=0.24 haze=0.26 deep_haze=0.14
haze_jpeg=0.12 clean=0.14 low_contrast=0.05 mixture=0.06"

fit_first() {
    # shellcheck disable=SC2086
    fit "$1" "$2" --compile --seed "$3" --minutes 92 --until "$4" --stages 0.55:96x4 1:192x2 --learning-rate 8e-4 --warmup-steps 50 \
        --mix $mix
}

fit_second() {
    # shellcheck disable=SC2086
    fit "$1" "$2" --compile --seed "$3" --minutes "$4" --stages "$5":96x4 1:192x2 --learning-rate "$6" --warmup-steps 50 --mix $mix
}

fit_first 10a 9c 0 9600
fit_first 10b 9c 11 8800
average 10a 10b 10c promptnaf

fit_second 10d 10c 20 46 0.15 4.5e-4
fit_second 10e 10c 21 45 0.15 4.5e-4
average 10d 10e 10f promptnaf

mix="gaussian=2.7 correlated=0.05 flat=0.03 jpeg=1.1 noise_jpeg=0.12 rain=0.14 heavy_rain=0.08 rain_jpeg=0.2 haze=0.28 deep_haze=0.14
haze_jpeg=0.12 clean=0.14 low_contrast=0.05 mixture=0.05"

fit_first 11a 10f 30 11200
fit_first 11b 10f 31 6400
average 11a 11b 11c promptnaf

fit_second 11d 11c 40 63 0.2 5e-4
fit_second 11e 11c 41 62 0.2 5e-4
average 11d 11e 11f promptnaf 0.67

promptir-train calibrate "$runs/11f/weights.safetensors" "$photos/photos" "$photos/photos2" --output "$runs/weights.safetensors" \
    --log-odds haze=1.2 jpeg=1
