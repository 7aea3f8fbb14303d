"""Trainings that are cut off: what a kill at a moment of one's choice leaves."""


class CutOffError(Exception):
    """The moment at which a training is cut off."""


def cut_off_at(last):
    """A callback of a training that cuts it off when so many epochs or steps are done."""

    def cut_off(done, _):
        if done == last:
            raise CutOffError

    return cut_off
