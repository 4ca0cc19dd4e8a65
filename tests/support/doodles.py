"""Twelve simple drawings as strokes of a mouse, on a canvas of 280 x 280 pixels, with the wobble of a hand."""

import itertools
import math
import random

STEP = 9  # pixels between two places that the mouse is seen at
WOBBLE = 1.2  # pixels that the hand drifts at each of them
STEADY = 0.8  # share of the drift that is left at the next one: a hand finds back to its line


def arc(x, y, width, height, start=0, end=360):
    """Points on an ellipse around (x, y), from one angle to another, in degrees; 0 is right, 90 is down."""
    angles = [math.radians(start + (end - start) * i / 20) for i in range(21)]
    return [(x + width / 2 * math.cos(a), y + height / 2 * math.sin(a)) for a in angles]


def star(x, y, size):
    angles = [math.radians(-90 + 144 * i) for i in range(6)]
    return [(x + size * math.cos(a), y + size * math.sin(a)) for a in angles]


HOUSE = [
    [(70, 130), (210, 130), (210, 240), (70, 240), (70, 130)],
    [(55, 130), (140, 60), (225, 130)],
    [(120, 240), (120, 180), (160, 180), (160, 240)],
]
# class name -> strokes
DOODLES = {
    "home": HOUSE,
    "sun": [
        arc(140, 140, 90, 90, 0, 370),
        *(
            [(140 + r * math.cos(math.radians(a)), 140 + r * math.sin(math.radians(a))) for r in (65, 110)]
            for a in range(0, 360, 45)
        ),
    ],
    "star": [star(140, 145, 105)],
    "heart": [
        [
            *arc(98, 105, 88, 80, 180, 360),
            *arc(182, 105, 80, 80, 180, 360),
            (215, 150),
            (140, 235),
            (62, 150),
            (54, 105),
        ]
    ],
    "umbrella": [
        arc(140, 140, 200, 170, 180, 360),
        [*arc(73, 140, 66, 30, 180, 360), *arc(140, 140, 66, 30, 180, 360), *arc(207, 140, 66, 30, 180, 360)],
        [(140, 55), (140, 220), *arc(122, 220, 36, 40, 0, 180)],
    ],
    "fish": [
        [*arc(120, 140, 160, 100, 20, 340), (245, 85), (245, 195), (195, 157)],
        arc(75, 125, 10, 10),
    ],
    "tree": [
        [*arc(95, 130, 90, 80, 90, 250), *arc(140, 85, 100, 80, 200, 340), *arc(185, 130, 90, 80, 290, 450), (95, 170)],
        [(125, 170), (122, 250)],
        [(157, 170), (160, 250)],
    ],
    "coffee": [
        [(70, 110), (80, 220), (180, 220), (190, 110), (70, 110)],
        arc(190, 155, 70, 60, -90, 90),
        [(105, 90), (112, 75), (105, 60), (112, 45)],
        [(150, 90), (157, 75), (150, 60), (157, 45)],
    ],
    "key": [
        arc(80, 140, 90, 90, 0, 370),
        arc(70, 140, 24, 24, 0, 370),
        [(125, 140), (245, 140), (245, 175)],
        [(210, 140), (210, 168)],
    ],
    "envelope": [
        [(45, 80), (235, 80), (235, 205), (45, 205), (45, 80)],
        [(45, 80), (140, 155), (235, 80)],
    ],
    "clock": [arc(140, 140, 190, 190, -90, 280), [(140, 75), (140, 140), (185, 165)]],
    "cloud": [
        [
            *arc(85, 165, 80, 70, 90, 260),
            *arc(120, 115, 90, 80, 180, 330),
            *arc(185, 135, 80, 70, 250, 380),
            *arc(205, 170, 70, 60, -60, 90),
            (85, 200),
        ]
    ],
}


def by_hand(strokes, seed):
    """The same strokes as a hand would move the mouse: through many places, a little beside the line."""
    rng = random.Random(seed)
    drawn = []
    for stroke in strokes:
        dx, dy = rng.gauss(0, 2), rng.gauss(0, 2)  # a stroke does not begin exactly where it should
        points = [(stroke[0][0] + dx, stroke[0][1] + dy)]
        for (x0, y0), (x1, y1) in itertools.pairwise(stroke):
            parts = max(1, round(math.dist((x0, y0), (x1, y1)) / STEP))
            for i in range(1, parts + 1):
                dx, dy = (STEADY * offset + rng.gauss(0, WOBBLE) for offset in (dx, dy))
                points.append((x0 + (x1 - x0) * i / parts + dx, y0 + (y1 - y0) * i / parts + dy))
        drawn.append(points)
    return drawn
