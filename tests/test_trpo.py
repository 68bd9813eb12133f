"""TRPO's own parts: conjugate gradient, the KL divergence's Hessian, trust region, line search."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

import trpo

pytestmark = pytest.mark.fast

OBS, ACT, CHOICE = Box(-np.inf, np.inf, (2,)), Box(-1, 1, (2,)), Discrete(3)
both = pytest.mark.parametrize("act", [ACT, CHOICE], ids=["gaussian", "categorical"])


def solve(H, g, iters):
    H, g = torch.as_tensor(H, dtype=torch.float64), torch.as_tensor(g, dtype=torch.float64)
    before, asked = g.clone(), []

    def multiply(v):
        asked.append(v)
        return H @ v

    x = trpo.conjugate_gradient(multiply, g, iters)
    assert torch.equal(g, before) and torch.isfinite(x).all()
    assert len(asked) <= len(g) + 1  # once solved, it stops, and does not chase rounding errors
    return x.numpy()


def make_ac(act, hidden_sizes=(), seed=0):
    torch.manual_seed(seed)
    return trpo.ActorCritic(OBS, act, trpo.Args(hidden_sizes=hidden_sizes)).double()


def make_batch(ac, act, seed=0, size=60):
    rng = np.random.default_rng(seed)
    s, ret, adv = (torch.tensor(rng.normal(size=shape)) for shape in ((size, 2), size, size))
    a = torch.tensor(rng.integers(3, size=size) if act is CHOICE else rng.normal(size=(size, 2)))
    adv = (adv - adv.mean()) / adv.std(correction=0)
    with torch.no_grad():
        return s, a, ret, adv, ac.pi(s).log_prob(a)


def theta_of(ac):
    return parameters_to_vector(ac.pi.parameters()).detach().clone()


def numbers(ac, s, params=None):
    """(μ, σ) or the probabilities in states s, as a function of the parameters {name: tensor}."""
    params = params or dict(ac.pi.named_parameters())
    net = {name.removeprefix("net."): p for name, p in params.items() if name.startswith("net.")}
    out = functional_call(ac.pi.net, net, (s,))
    if "log_std" in params:
        return out, params["log_std"].exp()
    return out.exp() / out.exp().sum(-1, keepdim=True)


def hand_kl(old, new):
    """Mean KL(old ‖ new) by the textbook formulas, of NumPy arrays or tensors."""
    if isinstance(old, tuple):
        (mu, sigma), (mu2, sigma2) = old, new
        log = torch.log if torch.is_tensor(sigma2) else np.log
        kl = log(sigma2 / sigma) + (sigma**2 + (mu - mu2) ** 2) / (2 * sigma2**2) - 0.5
    else:
        log = torch.log if torch.is_tensor(new) else np.log
        kl = old * (log(old) - log(new))
    return kl.sum(-1).mean()


def hand_surrogate(ac, batch, old, new):
    """Mean of Â π(a|s) / π_old(a|s)."""
    _, a, _, adv, _ = batch
    if isinstance(old, tuple):
        logs = []
        for mu, sigma in (old, new):
            logs.append(-0.5 * (((a - mu) / sigma) ** 2).sum(-1) - sigma.log().sum())
        ratio = (logs[1] - logs[0]).exp()
    else:
        ratio = new[range(len(a)), a] / old[range(len(a)), a]
    return (adv * ratio).mean()


# Conjugate gradient -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(4))
def test_conjugate_gradient(n, seed):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    H, g = basis @ np.diag(rng.uniform(0.5, 5, n)) @ basis.T, rng.normal(size=n)
    want = np.linalg.solve(H, g)
    for iters in (n, n + 10):  # as many steps as dimensions suffice, and more do no harm
        x = solve(H, g, iters)
        assert np.linalg.norm(H @ x - g) <= 1e-5 * np.linalg.norm(g)
        assert np.linalg.norm(x - want) <= 1e-4 * np.linalg.norm(want)
        # small gradients are solved as precisely
        np.testing.assert_allclose(solve(H, 1e-7 * g, iters), 1e-7 * x, rtol=1e-6)
    # a single step is steepest descent
    np.testing.assert_allclose(solve(H, g, 1), (g @ g) / (g @ H @ g) * g)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 3.0, 1e-3])
def test_conjugate_gradient_converges_exactly(n, scale):
    """After one step the residual is 0, and the next would divide 0 by 0."""
    g = np.arange(1.0, n + 1)
    np.testing.assert_allclose(solve(scale * np.eye(n), g, 10), g / scale)


def test_conjugate_gradient_of_zero():
    assert (solve(np.eye(3), np.zeros(3), 10) == 0).all()


def test_conjugate_gradient_meets_negative_curvature():
    assert (solve(-np.eye(3), np.ones(3), 10) == 0).all()
    assert (solve(np.zeros((3, 3)), np.ones(3), 10) == 0).all()  # nor a step of infinite length
    # gᵀ H g = 0.75 > 0, but the second direction has negative curvature
    g = np.array([1.0, 0.5])
    np.testing.assert_allclose(solve(np.diag([1.0, -1.0]), g, 10), 1.25 / 0.75 * g)


# KL divergence and its Hessian --------------------------------------------------------------------


def test_kl_of_gaussians():
    """KL(old ‖ new), not KL(new ‖ old): the sum over dimensions, the mean over rows."""
    mu, mu2 = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[0.5, 1.0], [2.0, 1.0]])
    sigma, sigma2 = np.array([0.5, 2.0]), np.array([1.0, 1.0])
    old, new = make_ac(ACT).pi, make_ac(ACT).pi
    # in these states the means are the weights' columns
    s = torch.eye(2, dtype=torch.float64)
    for pi, m, std in ((old, mu, sigma), (new, mu2, sigma2)):
        pi.net[0].weight.data = torch.tensor(m.T)
        pi.net[0].bias.data = torch.zeros(2, dtype=torch.float64)
        pi.log_std.data = torch.tensor(np.log(std))
    want = hand_kl((mu, sigma), (mu2, sigma2))
    rows = [
        np.log(2) + 0.5 / 2 - 0.5 + np.log(0.5) + 4 / 2 - 0.5,
        np.log(2) + 0.25 / 2 - 0.5 + np.log(0.5) + 8 / 2 - 0.5,
    ]
    np.testing.assert_allclose(want, np.mean(rows))
    np.testing.assert_allclose(trpo.compute_kl(old(s), new(s)).item(), want)
    assert abs(want - hand_kl((mu2, sigma2), (mu, sigma))) > 0.1


def test_kl_of_categoricals():
    old = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    new = np.array([[0.125, 0.125, 0.75], [0.45, 0.45, 0.1]])
    want = (
        0.5 * np.log(4) + 0.25 * np.log(2) - 0.25 * np.log(3) - 0.2 * np.log(4.5) + 0.8 * np.log(8)
    ) / 2
    pis = []
    for p in (old, new):
        pi = make_ac(CHOICE).pi
        pi.net[0].weight.data = torch.tensor(np.log(p).T)
        pi.net[0].bias.data = torch.ones(3).double()
        pis.append(pi)
    s = torch.eye(2, dtype=torch.float64)
    np.testing.assert_allclose(trpo.compute_kl(pis[0](s), pis[1](s)).item(), want)
    np.testing.assert_allclose(hand_kl(old, new), want)
    assert abs(want - hand_kl(new, old)) > 0.1


def watch_cg(monkeypatch):
    """Records what update_pi gives the conjugate gradient, and returns the exact solution."""
    seen = {}

    def exact(hvp, g, iters):
        H = torch.stack([hvp(e) for e in torch.eye(len(g), dtype=g.dtype)])
        seen.update(H=H.numpy(), g=g.numpy().copy(), x=np.linalg.solve(H.numpy(), g.numpy()))
        return torch.tensor(seen["x"])

    monkeypatch.setattr(trpo, "conjugate_gradient", exact)
    return seen


# not 0: a number added to all logits changes nothing, so H is singular
@pytest.mark.parametrize("damping", [1e-3, 0.1])
@both
def test_hessian_of_linear_policies(act, damping, monkeypatch):
    """For a linear network it is known.

    It is the mean of s sᵀ times 1/σ² for the means, or times diag(p) − p pᵀ for the logits.
    """
    ac, seen = make_ac(act), watch_cg(monkeypatch)
    batch = make_batch(ac, act)
    s, numbers_old = batch[0].numpy(), numbers(ac, batch[0])
    n = 2 if act is ACT else 3
    if act is ACT:
        F = np.tile(np.diag(numbers_old[1].detach().numpy() ** -2.0), (len(s), 1, 1))  # (B, n, n)
    else:
        p = numbers_old.detach().numpy()
        F = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]
    s1 = np.hstack([s, np.ones((len(s), 1))])
    # indexed by (output, input) twice; the last input is the bias's
    blocks = np.einsum("bij,bk,bl->ikjl", F, s1, s1) / len(s)
    # weights by rows, then biases
    order = [(i, k) for i in range(n) for k in range(2)]
    order += [(i, 2) for i in range(n)]
    H = np.array([[blocks[i, k, j, m] for j, m in order] for i, k in order])
    if act is ACT:  # log σ comes first: its block is 2 I, and it does not mix with the means
        H = np.block([[2 * np.eye(2), np.zeros((2, len(H)))], [np.zeros((len(H), 2)), H]])
    trpo.update_pi(ac, batch, trpo.Args(damping_coeff=damping))
    np.testing.assert_allclose(seen["H"], H + damping * np.eye(len(H)), atol=1e-10)


@both
def test_hessian_of_a_network(act, monkeypatch):
    ac, seen = make_ac(act, (3,)), watch_cg(monkeypatch)
    batch = make_batch(ac, act)
    s, names = batch[0], dict(ac.pi.named_parameters())

    def split(theta):
        pieces = theta.split([p.numel() for p in names.values()])
        return {name: x.view_as(p) for (name, p), x in zip(names.items(), pieces)}

    theta = theta_of(ac)
    old = numbers(ac, s, split(theta))

    def kl(x):
        return hand_kl(old, numbers(ac, s, split(x)))

    def surrogate(x):
        return hand_surrogate(ac, batch, old, numbers(ac, s, split(x)))

    H = torch.autograd.functional.hessian(kl, theta).numpy()
    g = torch.autograd.functional.jacobian(surrogate, theta).numpy()
    trpo.update_pi(ac, batch, trpo.Args(damping_coeff=0.05))
    np.testing.assert_allclose(seen["H"], H + 0.05 * np.eye(len(H)), atol=1e-10)
    np.testing.assert_allclose(seen["g"], g, atol=1e-10)  # uphill


# The step -----------------------------------------------------------------------------------------


@both
def test_step(act, monkeypatch):
    """θ_{k+1} − θ_k = β^j √(2δ / xᵀ H x) x, with the exact x and with the script's own."""
    args = trpo.Args(delta=0.02, damping_coeff=0.1, cg_iters=20, backtrack_coeff=0.5)
    seen = watch_cg(monkeypatch)
    for _ in range(2):
        ac = make_ac(act)
        batch, theta = make_batch(ac, act), theta_of(ac)
        info = trpo.update_pi(ac, batch, args)
        x, H, step = seen["x"], seen["H"], (theta_of(ac) - theta).numpy()
        want = 0.5 ** info["values/backtracks"] * np.sqrt(2 * 0.02 / (x @ H @ x)) * x
        np.testing.assert_allclose(step, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())
        assert step @ seen["g"] > 0
        monkeypatch.undo()


@both
@pytest.mark.parametrize("delta", [0.003, 0.01, 0.1])
def test_trust_region(act, delta):
    """After every update, KL(old ‖ new) ≤ δ and the surrogate is better; both are reported."""
    ac, moved = make_ac(act, (8,)), 0
    value = [p.detach().clone() for p in ac.v.parameters()]
    for seed in range(8):
        batch = make_batch(ac, act, seed)
        with torch.no_grad():
            old = numbers(ac, batch[0])
        info = trpo.update_pi(ac, batch, trpo.Args(delta=delta))
        with torch.no_grad():
            new = numbers(ac, batch[0])
            kl = hand_kl(old, new).item()
            gain = (hand_surrogate(ac, batch, old, new) - batch[3].mean()).item()
        assert kl <= delta and gain >= 0
        np.testing.assert_allclose(info["values/kl"].item(), kl, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(info["losses/delta_pi"].item(), -gain, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(info["losses/pi"].item(), -batch[3].mean().item(), atol=1e-12)
        moved += gain > 0 and kl > delta / 10
    assert moved >= 7  # steps come close to the limit, and do not merely respect it
    assert all(torch.equal(x, p) for x, p in zip(value, ac.v.parameters(), strict=True))


def test_line_search():
    """The full step leaves the trust region: one try finds nothing, and more take the second."""
    thetas = []
    for tries in (1, 2, 10):
        ac = make_ac(ACT)
        torch.nn.init.zeros_(ac.pi.net[0].bias)
        s, a = torch.zeros(2, 2).double(), torch.tensor([[0.0, 0.0], [2.0, 2.0]]).double()
        # the mean is good, so σ falls, where the KL exceeds its quadratic approximation
        adv = torch.tensor([1.0, -1.0]).double()
        with torch.no_grad():
            batch = s, a, adv, adv, ac.pi(s).log_prob(a)
        theta = theta_of(ac)
        args = trpo.Args(delta=0.05, damping_coeff=1e-9, backtrack_coeff=0.5, backtrack_iters=tries)
        info = trpo.update_pi(ac, batch, args)
        assert info["values/backtracks"] == 1
        if tries == 1:  # the old policy, to the last bit
            assert torch.equal(theta_of(ac), theta)
            assert info["values/kl"] == info["losses/delta_pi"] == 0
        else:
            assert 0 < info["values/kl"] <= 0.05 and info["losses/delta_pi"] < 0
            thetas.append(theta_of(ac))
    assert torch.equal(*thetas)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_acceptable_step_keeps_the_old_policy(act, dtype, monkeypatch):
    """Along −x the surrogate falls: all tries are rejected, and not a bit of θ changes."""
    ac = make_ac(act, (8,)).to(dtype)
    batch = list(make_batch(make_ac(act, (8,)), act))
    batch = [x.to(dtype) if x.is_floating_point() else x for x in batch]
    with torch.no_grad():
        batch[4] = ac.pi(batch[0]).log_prob(batch[1])
    theta, cg = theta_of(ac), trpo.conjugate_gradient
    monkeypatch.setattr(trpo, "conjugate_gradient", lambda *args: -cg(*args))
    info = trpo.update_pi(ac, batch, trpo.Args())
    assert torch.equal(theta_of(ac), theta)
    assert info["values/backtracks"] == trpo.Args().backtrack_iters
    assert info["values/kl"] == info["losses/delta_pi"] == 0


def test_nan_keeps_the_old_policy(monkeypatch):
    """A step that makes the loss NaN is no improvement."""
    ac = make_ac(CHOICE, (8,))
    batch, theta, loss = make_batch(ac, CHOICE), theta_of(ac), trpo.compute_loss_pi

    def poisoned(ac, batch, args):
        loss_pi, info = loss(ac, batch, args)
        return loss_pi if torch.equal(theta_of(ac), theta) else loss_pi * torch.nan, info

    monkeypatch.setattr(trpo, "compute_loss_pi", poisoned)
    trpo.update_pi(ac, batch, trpo.Args())
    assert torch.equal(theta_of(ac), theta)


@both
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_zero_advantages(act, damping):
    ac = make_ac(act, (8,)).float()
    with torch.no_grad():
        s = torch.randn(20, 2)
        a = ac.pi(s).sample()
        batch = s, a, torch.zeros(20), torch.zeros(20), ac.pi(s).log_prob(a)
    theta = theta_of(ac)
    info = trpo.update_pi(ac, batch, trpo.Args(damping_coeff=damping))
    assert torch.equal(theta_of(ac), theta)
    assert all(torch.isfinite(torch.as_tensor(x)).all() for x in info.values())


@both
def test_updates_after_a_rejected_one(act):
    """Gradients still reach the parameters after the line search has put the old ones back."""
    ac = make_ac(act)
    batch, theta = make_batch(ac, act), theta_of(ac)
    trpo.update_pi(ac, (*batch[:3], 0 * batch[3], batch[4]), trpo.Args())
    trpo.update_pi(ac, batch, trpo.Args())
    assert not torch.equal(theta_of(ac), theta)
