"""RL with verifiable rewards: a policy learns to close brackets from "right" and "wrong" alone.

 1: input: policy parameters θ_0, prompts x such as "([", a checker r(x, y)
 2: for k = 0, 1, 2, ... do
 3:   sample a group of K answers y_1, ..., y_K to every prompt, token by token
 4:   let the checker rate them: r_i = 1 if y_i closes all brackets in order, else 0
 5:   compare every answer with its group, as GRPO does: Â_i = r_i − mean(r_1, ..., r_K)
 6:   take one step of gradient ascent on mean_i Â_i Σ_t log π_θ(y_{i,t}|x, y_{i,<t}), with Adam

It trains on prompts of up to four brackets, and is tested on longer ones, too.

    python docs/rl/examples/verifiable_rewards.py --seed 1
"""

import itertools

import torch
import tyro
from torch import nn
from torch.distributions import Categorical

TOKENS = "_()[]."  # "_" fills short prompts up on the left, "." ends an answer
N = 5  # tokens in a prompt; an answer has one more


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(len(TOKENS), 64, batch_first=True)
        self.head = nn.Linear(64, len(TOKENS))

    def forward(self, tokens, memory=None):
        """Tokens (B, T) -> logits of the token after each (B, T, 6), and the GRU's memory."""
        x, memory = self.gru(nn.functional.one_hot(tokens, len(TOKENS)).float(), memory)
        return self.head(x), memory


@torch.no_grad()
def sample(pi, prompts):
    """(3) An answer to each prompt. Tokens (B, N) -> prompts and answers (B, 2N + 1)."""
    texts = [prompts]
    memory = None
    for _ in range(N + 1):
        logits, memory = pi(texts[-1], memory)
        texts.append(Categorical(logits=logits[:, -1:], validate_args=False).sample())
    return torch.cat(texts, dim=1)


def spell(tokens):
    return "".join(TOKENS[token] for token in tokens)


def check(text):
    """(4) 1 if the brackets before the first full stop are in balance, else 0."""
    text, stop, _ = text.lstrip("_").partition(".")
    while "()" in text or "[]" in text:
        text = text.replace("()", "").replace("[]", "")
    return float(text == "" and stop == ".")


def compute_loss(pi, texts, adv):
    """(6) −mean Â Σ_t log π_θ(y_t|x, y_{<t}). Tokens (B, 2N + 1), advantages (B,) -> scalar."""
    logits, _ = pi(texts[:, :-1])
    logp = Categorical(logits=logits, validate_args=False).log_prob(texts[:, 1:])
    stops = (texts[:, :-1] == TOKENS.index(".")).cumsum(dim=1)  # full stops before each token
    return -(adv * (logp * (stops == 0))[:, N - 1 :].sum(dim=1)).mean()


def train(seed: int = 0, steps: int = 300, group_size: int = 16, lr: float = 3e-3):
    """Trains on the prompts of 1 to 4 brackets; returns its success on these and on those of 5."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pi = Policy()  # (1)
    optimizer = torch.optim.Adam(pi.parameters(), lr=lr)
    prompts = []
    for length in range(1, N + 1):
        for brackets in itertools.product("([", repeat=length):
            prompts.append([TOKENS.index(token) for token in "".join(brackets).rjust(N, "_")])
    x = torch.tensor(prompts).repeat_interleave(group_size, dim=0)
    longer = x[:, 0] != TOKENS.index("_")

    print(" step  success  on longer prompts  an answer")
    for step in range(steps + 1):  # (2)
        texts = sample(pi, x[~longer])  # (3)
        r = torch.tensor([check(spell(row)) for row in texts.tolist()]).view(-1, group_size)  # (4)
        adv = (r - r.mean(dim=1, keepdim=True)).flatten()  # (5)
        if step % 50 == 0:
            others = [check(spell(row)) for row in sample(pi, x[longer]).tolist()]
            success = r.mean().item(), sum(others) / len(others)
            print(f"{step:5d} {success[0]:8.3f} {success[1]:18.3f}  {spell(texts[-1])}")
        loss = compute_loss(pi, texts, adv)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return success


if __name__ == "__main__":
    tyro.cli(train)
