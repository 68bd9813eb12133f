"""Exercise 1.10: runs the learner's script, and reads its learning from the episodes, not from its prints."""

import ast
import io
import math
import time
import tokenize

import gymnasium

import patience
from checks.common import Wrong, require

IS_SCRIPT = True
REFUSED = ("stable_baselines3", "sb3_contrib", "spinup", "cleanrl", "torchrl")
LINES, WINDOW, GOAL, SECONDS = 100, 20, 150, 55
HINTS = {
    r"too many values to unpack \(expected 4\)": "env.step returns five things: s, r, terminated, truncated, info.",
    r"not enough values to unpack \(expected [23]": "env.reset returns two things: the observation and a dict.",
    r"dtype of dict|only integer|expected .*Tensor|must be real number|can't convert|tuple": "env.reset() returns "
    "(observation, info), and env.step() five things. Is one of them taken whole?",
    r"second time": "The loss of an earlier step is still in the graph: were the lists emptied after the update?",
    r"does not require grad": "The loss has no gradient: are log-probabilities computed by the policy in the update?",
}


class Learned(BaseException):
    """Ends the learner's script when its returns have reached the goal."""


def count_lines(source):
    """Lines with code: no comments, no blank lines, no docstring of the module."""
    tree = ast.parse(source)
    doc = range(tree.body[0].lineno, tree.body[0].end_lineno + 1) if ast.get_docstring(tree) else ()
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len({n for t in tokens if t.type not in skip for n in range(t.start[0], t.end[0] + 1)} - set(doc))


class TimeUp(BaseException):
    """Ends it when its time is over."""


class Recorder(gymnasium.Wrapper):
    """Notes the return of every episode of every environment that the script makes."""

    returns, deadline = (), math.inf

    def reset(self, **kwargs):
        self.total, self.over = 0.0, False
        return super().reset(**kwargs)

    def step(self, action):
        require(hasattr(self, "total"), "env.step was called before env.reset.")
        require(not self.over, "env.step was called after the end of an episode: when it has terminated or was "
                "truncated, env.reset comes first.")  # fmt: skip
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


def mean(xs):
    return sum(xs) / len(xs)


def check_script(learner):
    """a script of fewer than 100 lines"""
    lines = count_lines(learner.source)
    if lines == 0:
        raise NotImplementedError
    require(lines < LINES, f"It has {lines} lines of code; fewer than {LINES} are asked for.")


def check_learning(learner):
    """learning: a mean return of 150 over 20 episodes"""
    if count_lines(learner.source) == 0:
        raise NotImplementedError
    made, Recorder.returns = gymnasium.make, []

    def make(env_id, *args, **kwargs):
        require(env_id == "CartPole-v1", f"CartPole-v1 is asked for, and gymnasium.make got {env_id}.")
        return Recorder(made(env_id, *args, **kwargs))

    gymnasium.make, Recorder.deadline = make, time.monotonic() + SECONDS * patience.factor()
    try:
        exec(compile(learner.source, learner.file, "exec"), {"__name__": "__main__", "__file__": learner.file})
    except (Learned, TimeUp, SystemExit):
        pass
    finally:
        gymnasium.make = made
    require(
        Recorder.returns, "The script ended before an episode did. Is CartPole-v1 made by gymnasium.make, and stepped?"
    )
    judge(Recorder.returns)


def judge(returns):
    """What the returns say about the script, also where it was stopped by an error."""
    first, last = mean(returns[:WINDOW]), mean(returns[-WINDOW:])
    if last >= GOAL and len(returns) >= WINDOW:
        require(
            first < 80,
            f"The first {WINDOW} episodes already return {first:.0f}: that is not a policy that begins to learn.",
        )
        return
    last = mean(returns[-max(WINDOW, len(returns) // 4) :])  # many, so that chance makes no difference
    path = " ".join(
        f"{mean(returns[i : i + WINDOW]):.0f}" for i in range(0, len(returns), max(WINDOW, len(returns) // 8))
    )
    story = f"{len(returns)} episodes, with mean returns {path}; {GOAL} is asked for."
    if len(returns) < 5 * WINDOW:
        hint = "That is too few to learn from: let it go on for longer."
    elif last < 0.7 * first:
        hint = "It gets worse and worse, so it steps the wrong way: the loss is minus mean log π R̂."
    elif last < 1.5 * first:
        hint = (
            "Nothing changes. Is there zero_grad, backward and step, in this order, once an update? Is the learning "
            "rate of a size like 1e-2? Does the gradient flow through log π, not through the return?"
        )
    else:
        hint = (
            "It learns, but too slowly: a larger learning rate, rewards-to-go instead of whole returns, returns made "
            "comparable by subtracting their mean, more updates with fewer steps each."
        )
    raise Wrong(f"{story}\n{hint}")


PARTS = [check_script, check_learning]


def train(learner):
    """Its check is a training run already."""
    return f"this exercise's check is one: {len(Recorder.returns)} episodes."
