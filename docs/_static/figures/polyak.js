// A noisy parameter, and the target that follows it by polyak averaging.
const RHOS = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999];

figure("polyak", {
  alt: "A plot over 600 updates. A jagged line, the parameter, climbs and jumps half way; a smooth line, its target, follows it. The nearer ρ is to 1, the smoother the target and the later it follows.",
  controls: [
    ["i", "polyak ρ", 0, RHOS.length - 1, 1, 6, (i) => String(RHOS[i])],
    ["noise", "noise of the parameter", 0, 0.5, 0.05, 0.2],
  ],
  draw({ i, noise }) {
    const rho = RHOS[i];
    this.noise ??= normals(600, 3);
    const truth = (t) => (t < 300 ? 1 - Math.exp(-t / 80) : 1.6);
    const phi = range(600).map((t) => truth(t) + noise * this.noise[t]);
    let target = phi[0];
    const targets = phi.map((x) => (target = rho * target + (1 - rho) * x));
    const ticks = { xTicks: [0, 100, 200, 300, 400, 500, 600], yTicks: [0, 0.5, 1, 1.5, 2] };
    const plot = new Plot({ x: [0, 600], y: [-0.5, 2.5], xLabel: "update", ...ticks });
    plot.line(phi.map((y, t) => [t, y]), "b faint");
    plot.line(targets.map((y, t) => [t, y]), "a");
    plot.text(20, 2.2, "parameter φ", "b");
    plot.text(150, 2.2, "target φ_targ", "a");
    const half = rho === 0 ? 1 : Math.ceil(Math.log(0.5) / Math.log(rho));
    const updates = `${half} update${half > 1 ? "s" : ""}`;
    const reach = `With ρ = ${rho} the target has gone half of the way to a new value after ${updates}`;
    return [[plot], `${reach}, and averages over about ${Math.round(1 / (1 - rho))}. At the end it is at ${show(target)}; the truth is 1.60.`];
  },
});
