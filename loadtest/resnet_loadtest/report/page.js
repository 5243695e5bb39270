// Draws CHARTS into the elements chart0, chart1, …; again when the theme changes.
// Blues go with percentiles, from the common to the rare; the other hues differ also for the colour-blind.
const THEMES = {
  light: {
    ink: "#1d1f23", quiet: "#5d6470", line: "#e4e5e1", card: "#ffffff",
    p50: "#7fb0e6", p95: "#2f74c0", p99: "#123f78", dot: "rgba(47,116,192,0.36)",
    answered: "#2f74c0", offered: "#8a909b", failed: "#c0392b", queue: "#d98a1f", compute: "#2f74c0",
    decode: "#2a9d8f", other: "#a9aeb8", memory: "#8e5bb5", goal: "#b3261e",
  },
  dark: {
    ink: "#e9eaec", quiet: "#a0a7b3", line: "#31363d", card: "#1e2125",
    p50: "#4a7db5", p95: "#5e9be0", p99: "#bcd8fa", dot: "rgba(120,170,230,0.36)",
    answered: "#5e9be0", offered: "#868d99", failed: "#ef6f64", queue: "#e6a23c", compute: "#5e9be0",
    decode: "#46bfae", other: "#646b77", memory: "#b78ade", goal: "#f2786f",
  },
};
const darkness = window.matchMedia("(prefers-color-scheme: dark)");

function painted(value, theme) {
  if (typeof value === "string" && value.startsWith("@")) return theme[value.slice(1)];
  if (Array.isArray(value)) return value.map((item) => painted(item, theme));
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, painted(item, theme)]));
  }
  return value;
}

function layoutOf(own, theme) {
  const axis = {
    gridcolor: theme.line, linecolor: theme.line, zerolinecolor: theme.line, automargin: true,
    title: { font: { color: theme.quiet, size: 12 }, standoff: 8 },
  };
  const layout = {
    paper_bgcolor: theme.card, plot_bgcolor: theme.card, autosize: true,
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif", size: 12, color: theme.ink },
    margin: { l: 52, r: 14, t: 34, b: 42 }, hovermode: "closest", bargap: 0.08,
    legend: { orientation: "h", traceorder: "normal", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11.5 } },
    hoverlabel: { bgcolor: theme.card, bordercolor: theme.quiet, font: { color: theme.ink } },
    ...painted(own, theme),
  };
  for (const name of ["xaxis", "yaxis", "yaxis2"]) {
    if (!own[name] && name === "yaxis2") continue;
    const given = painted(own[name] || {}, theme);
    const title = typeof given.title === "string" ? { text: given.title } : given.title || {};
    layout[name] = { ...axis, ...given, title: { ...axis.title, ...title } };
  }
  return layout;
}

function draw() {
  const theme = THEMES[darkness.matches ? "dark" : "light"];
  CHARTS.forEach((chart, number) => {
    Plotly.react(`chart${number}`, painted(chart.traces, theme), layoutOf(chart.layout, theme),
      { responsive: true, displaylogo: false, displayModeBar: false });
  });
}

draw();
darkness.addEventListener("change", draw);
