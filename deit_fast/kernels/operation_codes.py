"""Takes nothing, gives the number of each operation on a view, as policies write it and as views are made by it.

An operation has one argument, a float64, which is what Pillow is handed, after all drawing: it stands beside each.
"""

NOTHING = 0  # no argument
AUTO_CONTRAST = 1  # none
EQUALIZE = 2  # none
INVERT = 3  # none
ROTATE = 4  # degrees counter-clockwise, about the centre
POSTERIZE = 5  # bits kept of each channel, 0 to 8
SOLARIZE = 6  # threshold, 0 to 256: values from there on are inverted
SOLARIZE_ADD = 7  # what is added to values below 128
COLOR = 8  # factor: 0 grey, 1 as it was
CONTRAST = 9  # factor: 0 the mean grey, 1 as it was
BRIGHTNESS = 10  # factor: 0 black, 1 as it was
SHARPNESS = 11  # factor: 0 smoothed, 1 as it was
SHEAR_X = 12  # columns that a row moves for each row down
SHEAR_Y = 13  # rows that a column moves for each column to the right
TRANSLATE_X = 14  # pixels, not rounded
TRANSLATE_Y = 15  # pixels, not rounded
GREY = 16  # none
BLUR = 17  # standard deviation of the Gaussian in pixels

NUM_CODES = 18
