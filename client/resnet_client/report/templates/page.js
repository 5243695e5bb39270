// Draws the charts, and draws them again when the theme changes. In a chart, "--p95" is the colour --p95 of page.css.
const elements = document.querySelectorAll(".chart");
const charts = document.getElementById("charts").textContent;

function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true,
    title: { font: { color: colour("--quiet"), size: 12 }, standoff: 8 },
  };
  const layout = {
    paper_bgcolor: colour("--card"), plot_bgcolor: colour("--card"), xaxis: axis, yaxis: axis,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
    margin: { l: 52, r: 14, t: 34, b: 42 }, hovermode: "closest", bargap: 0.08,
    legend: { orientation: "h", traceorder: "normal", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11.5 } },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--quiet"), font: { color: colour("--ink") } },
  };
  const coloured = charts.replace(/"(--[a-z0-9]+)"/g, (_, name) => JSON.stringify(colour(name)));
  JSON.parse(coloured).forEach((chart, number) => {
    const template = { layout };
    Plotly.react(elements[number], chart.traces, { ...chart.layout, template }, { responsive: true, displayModeBar: false });
  });
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
