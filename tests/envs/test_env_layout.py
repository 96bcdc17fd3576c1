"""The layout says what each observation dimension is."""

import pytest

import envs


@pytest.mark.parametrize(
    "task, expected",
    [
        ("pendulum-swingup", [("orientation", 0, 2, "position"), ("velocity", 2, 3, "velocity")]),
        (  # rootz, the pitch of the torso, which no limit bounds, and six limited joints
            "cheetah-run",
            [
                ("position", 0, 1, "position"),
                ("position", 1, 2, "angle"),
                ("position", 2, 8, "position"),
                ("velocity", 8, 17, "velocity"),
            ],
        ),
        (
            "reacher-easy",  # the shoulder turns freely, the wrist does not
            [
                ("position", 0, 1, "angle"),
                ("position", 1, 2, "position"),
                ("to_target", 2, 4, "position"),
                ("velocity", 4, 6, "velocity"),
            ],
        ),
        (
            "finger-spin",  # the spinner's own angle is not observed
            [
                ("position", 0, 4, "position"),
                ("velocity", 4, 7, "velocity"),
                ("touch", 7, 9, "contact"),
            ],
        ),
        (
            "walker-walk",
            [
                ("orientations", 0, 14, "position"),
                ("height", 14, 15, "position"),
                ("velocity", 15, 24, "velocity"),
            ],
        ),
    ],
)
def test_kinds_of_known_tasks(task, expected):
    assert [tuple(field) for field in envs.make(task).layout] == expected


def test_an_observation_that_mixes_kinds_is_split():
    # quadruped.egocentric_state: 16 hinges, their 16 velocities, 12 activations
    fields = [f for f in envs.make("quadruped-run").layout if f.name.startswith("ego")]
    assert [tuple(f)[1:] for f in fields] == [
        (0, 16, "position"),
        (16, 32, "velocity"),
        (32, 44, "other"),
    ]


def test_an_unlimited_joint_that_a_servo_holds_is_not_circular():
    # fish: no joint has a limit, but position servos and springs count the turns
    assert "angle" not in {f.kind for f in envs.make("fish-swim").layout}
