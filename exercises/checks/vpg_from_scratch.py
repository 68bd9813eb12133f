"""Checks of exercise 1.10: runs the learner's script, and watches its episodes, not its prints."""

import ast
import io
import math
import time
import tokenize

import gymnasium

import slowdown
from checks.common import Exercise, Wrong, require

LINES = 100  # of code that a script must stay below
WINDOW = 20  # episodes whose mean return must reach the goal
GOAL = 150
SECONDS = 55
HINTS = {
    r"too many values to unpack \(expected 4\)": (
        "env.step returns five things: s, r, terminated, truncated, info."
    ),
    r"not enough values to unpack \(expected [23]": (
        "env.reset returns two things: the observation and a dict."
    ),
    r"dtype of dict|only integer|expected .*Tensor|must be real number|can't convert|tuple": (
        "env.reset() returns (observation, info), and env.step() five things. "
        "Is one of them taken whole?"
    ),
    r"second time": (
        "The loss of an earlier step is still in the graph: "
        "were the lists emptied after the update?"
    ),
    r"does not require grad": (
        "The loss has no gradient: are log-probabilities computed by the policy in the update?"
    ),
}
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


class Learned(BaseException):
    """Ends the learner's script when its returns have reached the goal."""


class TimeUp(BaseException):
    """Ends the learner's script when its time is over."""


def count_lines(source):
    """Lines with code: no comments, no blank lines, no docstring of the module."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    tree = ast.parse(source)
    if ast.get_docstring(tree):
        docstring = tree.body[0]
        lines -= set(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def mean(xs):
    return sum(xs) / len(xs)


class Recorder(gymnasium.Wrapper):
    """Notes the return of every episode of every environment that the script makes."""

    returns = ()
    deadline = math.inf

    def reset(self, **kwargs):
        self.total = 0.0
        self.over = False
        return super().reset(**kwargs)

    def step(self, action):
        require(hasattr(self, "total"), "env.step was called before env.reset.")
        require(
            not self.over,
            "env.step was called after the end of an episode: "
            "when it has terminated or was truncated, env.reset comes first.",
        )
        s, r, terminated, truncated, info = super().step(action)
        if time.monotonic() > Recorder.deadline:
            raise TimeUp
        self.total += r
        self.over = terminated or truncated
        if self.over:
            Recorder.returns.append(self.total)
            if len(Recorder.returns) >= WINDOW and mean(Recorder.returns[-WINDOW:]) >= GOAL:
                raise Learned
        return s, r, terminated, truncated, info


def check_script(learner):
    """a script of fewer than 100 lines"""
    lines = count_lines(learner.source)
    if lines == 0:
        raise NotImplementedError
    require(lines < LINES, f"It has {lines} lines of code; it should have fewer than {LINES}.")


def check_learning(learner):
    """learning: a mean return of 150 over 20 episodes"""
    if count_lines(learner.source) == 0:
        raise NotImplementedError
    made = gymnasium.make

    def make(env_id, *args, **kwargs):
        require(env_id == "CartPole-v1", f"gymnasium.make got {env_id}; it should get CartPole-v1.")
        return Recorder(made(env_id, *args, **kwargs))

    gymnasium.make = make
    Recorder.returns = []
    Recorder.deadline = time.monotonic() + SECONDS * slowdown.factor()
    program = compile(learner.source, learner.file, "exec")
    try:
        exec(program, {"__name__": "__main__", "__file__": learner.file})
    except (Learned, TimeUp, SystemExit):
        pass
    finally:
        gymnasium.make = made
    require(
        Recorder.returns,
        "The script ended before an episode did. "
        "Is CartPole-v1 made by gymnasium.make, and stepped?",
    )
    judge_returns(Recorder.returns)


def judge_returns(returns):
    """What the returns say about the script, also where an error stopped it."""
    first = mean(returns[:WINDOW])
    last = mean(returns[-WINDOW:])
    if last >= GOAL and len(returns) >= WINDOW:
        require(
            first < 80,
            f"The first {WINDOW} episodes already return {first:.0f}: "
            "that is not a policy that begins to learn.",
        )
        return

    last = mean(returns[-max(WINDOW, len(returns) // 4) :])  # many, so that chance cannot matter
    stride = max(WINDOW, len(returns) // 8)
    path = [f"{mean(returns[i : i + WINDOW]):.0f}" for i in range(0, len(returns), stride)]
    story = f"{len(returns)} episodes, with mean returns {' '.join(path)}; the goal is {GOAL}."
    if len(returns) < 5 * WINDOW:
        hint = "That is too few to learn from: let it go on for longer."
    elif last < 0.7 * first:
        hint = "It gets worse and worse, so it steps the wrong way: the loss is minus mean log π R̂."
    elif last < 1.5 * first:
        hint = (
            "Nothing changes. Are zero_grad, backward and step called in this order, "
            "once an update? Is the learning rate about 1e-2? "
            "Does the gradient flow through log π, not through the return?"
        )
    else:
        hint = (
            "It learns, but too slowly. Try a larger learning rate, "
            "rewards-to-go instead of whole returns, "
            "returns made comparable by subtracting their mean, "
            "or more updates with fewer steps each."
        )
    raise Wrong(f"{story}\n{hint}")


EXERCISE = Exercise(
    parts=[check_script, check_learning],
    refused=("stable_baselines3", "sb3_contrib", "spinup", "cleanrl", "torchrl"),
    hints=HINTS,
    is_script=True,
)


def train(learner):
    """Nothing to do: its check is a training run already."""
    return f"this exercise's check is one: {len(Recorder.returns)} episodes."
