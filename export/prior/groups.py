"""The order in which each latent space's channels are coded: groups, coarse to fine.

The first group is coded over a pyramid of positions, so it should hold the channels that neighbours predict best.
"""

GROUPS = {
    # Channels 0-27 are brightness, 28-33 and 34-39 colour differences, each by rising frequency.
    "tiny": [
        [0, 28, 34],
        [1, 2],
        [3, 4, 5],
        [6, 7, 8, 9],
        [29, 30, 35, 36],
        [10, 11, 12, 13, 14],
        [15, 16, 17, 18, 19, 20],
        [21, 22, 23, 24, 25, 26, 27],
        [31, 32, 33, 37, 38, 39],
    ],
}
