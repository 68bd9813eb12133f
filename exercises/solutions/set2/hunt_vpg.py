"""What was wrong: KL and entropy were logged from the evaluation before the step, when the policy
was still the one that had collected the data, so KL was 0 in every epoch. The agent learnt as well
as ever: this bug lived in a log, where it hides a policy whose steps are far too long. (Spinning
Up's VPG had it.)

This file is not the fixed script: the checker makes the broken copy again, and replaces WRONG by
RIGHT in it.
"""

WRONG = """\
    loss_old, info = compute_loss_pi(ac, batch, args)
    pi_optimizer.zero_grad()
    compute_grad_pi(ac, batch, args)  # (6)
    logx.average_gradients(ac.pi)
    pi_optimizer.step()  # (7)

    with torch.no_grad():
        loss_new, _ = compute_loss_pi(ac, batch, args)"""

RIGHT = """\
    loss_old, _ = compute_loss_pi(ac, batch, args)
    pi_optimizer.zero_grad()
    compute_grad_pi(ac, batch, args)  # (6)
    logx.average_gradients(ac.pi)
    pi_optimizer.step()  # (7)

    with torch.no_grad():
        loss_new, info = compute_loss_pi(ac, batch, args)"""
