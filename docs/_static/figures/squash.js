// Samples of a diagonal Gaussian in two dimensions, and the same samples through tanh.
figure("squash", {
  alt: "Two panels of 300 sample points with the one-sigma and two-sigma curves. At the left a diagonal Gaussian: ellipses along the axes. At the right the same points after tanh: all inside the square from −1 to 1, and pressed against its edges where the Gaussian is wide or far from zero.",
  height: 260,
  controls: [
    ["mu", "mean μ₁", -2, 2, 0.1, 0.5],
    ["s1", "deviation σ₁", 0.1, 2, 0.1, 1],
    ["s2", "deviation σ₂", 0.1, 2, 0.1, 0.5],
  ],
  draw({ mu, s1, s2 }) {
    this.noise ??= normals(600);
    const points = range(300).map((i) => [mu + s1 * this.noise[2 * i], s2 * this.noise[2 * i + 1]]);
    const ellipse = (k) => range(121).map((i) => [mu + k * s1 * Math.cos((i * Math.PI) / 60), k * s2 * Math.sin((i * Math.PI) / 60)]);
    const squash = (list) => list.map((p) => p.map(Math.tanh));
    const left = new Plot({ x: [-4, 4], y: [-4, 4], at: [30, 28, 205, 205], xTicks: [-4, -2, 0, 2, 4], yTicks: [-4, 0, 4], title: "u, Gaussian" });
    const right = new Plot({ x: [-1.05, 1.05], y: [-1.05, 1.05], at: [268, 28, 205, 205], xTicks: [-1, 0, 1], yTicks: [-1, 0, 1], title: "a = tanh(u)" });
    left.line([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], "thin");
    for (const [plot, map] of [[left, (x) => x], [right, squash]]) {
      for (const [x, y] of map(points)) if (Math.abs(x) < 4 && Math.abs(y) < 4) plot.dot(x, y, "a faint", 2);
      for (const k of [1, 2]) plot.line(map(ellipse(k)), "b");
      plot.dot(...map([[mu, 0]])[0], "b", 4);
    }
    const edge = squash(points).filter(([x, y]) => Math.max(Math.abs(x), Math.abs(y)) > 0.95).length / 3;
    const words = `${edge.toFixed(0)} % of the samples have a coordinate beyond ±0.95.`;
    return [[left, right], `${words} The deterministic action is tanh(μ) = (${show(Math.tanh(mu))}, 0).`];
  },
});
