// All Gaussians within a KL divergence δ of N(0, σ²), in the plane of their mean and log σ, and two steps to its edge.
figure("kl-ball", {
  alt: "The plane of a Gaussian policy's two parameters, with the old policy in the middle. A closed curve bounds the policies within KL divergence δ; a dashed ellipse is its quadratic approximation, narrow along the mean where σ is small. An arrow follows the plain gradient to the ellipse; another, the natural gradient, reaches the point of the ellipse where a linear objective is largest.",
  height: 345,
  controls: [
    ["angle", "direction of the gradient (degrees)", 0, 355, 5, 40],
    ["sigma", "σ of the old policy", 0.1, 1, 0.05, 0.3],
    ["delta", "limit δ", 0.01, 0.1, 0.01, 0.05],
  ],
  draw({ angle, sigma, delta }) {
    const g = [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];
    const F = [1 / sigma ** 2, 2]; // the Fisher information of (mean, log σ), a diagonal matrix
    const norm = (x, weights) => Math.sqrt((2 * delta) / (x[0] ** 2 * weights[0] + x[1] ** 2 * weights[1]));
    const plain = g.map((x) => x * norm(g, F));
    const natural = g.map((x, i) => (x / F[i]) * norm(g, [1 / F[0], 1 / F[1]]));
    const gain = ([x, y]) => g[0] * x + g[1] * y;
    const kl = ([m, l]) => l + (1 + (m / sigma) ** 2) / (2 * Math.exp(2 * l)) - 0.5; // of old and new
    const edge = (l) => sigma * Math.sqrt(Math.max(0, 2 * Math.exp(2 * l) * (delta + 0.5 - l) - 1));
    const root = (sign) => {
      let [inside, outside] = [0, sign];
      for (let i = 0; i < 40; i++) {
        const l = (inside + outside) / 2;
        [inside, outside] = kl([0, l]) < delta ? [l, outside] : [inside, l];
      }
      return inside;
    };
    const [low, high] = [root(-1), root(1)];
    const half = range(61).map((i) => low + ((high - low) * (1 - Math.cos((i * Math.PI) / 60))) / 2);
    const ball = [...half.map((l) => [edge(l), l]), ...half.reverse().map((l) => [-edge(l), l])];
    const ellipse = range(121).map((i) => [Math.cos((i * Math.PI) / 60), Math.sin((i * Math.PI) / 60)]);
    const ticks = [-0.5, -0.25, 0, 0.25, 0.5];
    const plot = new Plot({ x: [-0.56, 0.56], y: [-0.38, 0.38], at: [46, 12, 420, 285], xLabel: "change of the mean", yLabel: "change of log σ", xTicks: ticks, yTicks: [-0.25, 0, 0.25] });
    plot.line(ball, "a");
    plot.line(ellipse.map((p) => p.map((x, i) => x * Math.sqrt((2 * delta) / F[i]))), "a dashed");
    const level = [-0.3, 0.3].map((t) => [natural[0] - t * g[1], natural[1] + t * g[0]]);
    plot.line(level, "thin");
    plot.arrow(...plain, "b");
    plot.arrow(...natural, "c");
    plot.dot(0, 0, "a", 4);
    plot.text(-0.54, -0.31, "plain gradient", "b");
    plot.text(-0.54, -0.355, "natural gradient", "c");
    plot.text(0.54, -0.355, "KL = δ; dashed: its approximation", "a end");
    const more = `the plain step gains ${show(gain(plain), 3)} of a linear objective, the natural step ${show(gain(natural), 3)}`;
    return [[plot], `To the dashed edge, ${more}. The true KL divergence there is ${show(kl(natural), 3)}, where δ is ${show(delta)}.`];
  },
});
