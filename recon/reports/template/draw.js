// Draws every figure of the page from the data beside it, and again at the paper's width when it is printed.
(function () {
  var PAPER = 680; // CSS pixels between the margins of an A4 or Letter page
  var SMALLEST = 9; // pixels of a letter that is still read
  var drawings = [];
  // Names of bars get smaller where they would be cut off: Plotly leaves the bars some room, and fonts differ in width.
  function fit(drawing) {
    var axis = drawing.layout.yaxis || {};
    var size = (axis.tickfont && axis.tickfont.size) || drawing.layout.font.size;
    var edge = drawing.getBoundingClientRect().left;
    var names = Array.from(drawing.querySelectorAll(".ytick text"));
    if (size > SMALLEST && names.some(function (name) { return name.getBoundingClientRect().left < edge + 1; })) {
      Plotly.relayout(drawing, {"yaxis.tickfont.size": size - 1}).then(fit);
    }
  }
  document.querySelectorAll(".figure").forEach(function (place) {
    var figure = JSON.parse(place.querySelector("script").textContent);
    var drawing = place.querySelector(".drawing");
    Plotly.newPlot(drawing, figure.data, figure.layout, {displayModeBar: false, responsive: true}).then(fit);
    drawings.push(drawing);
  });
  window.addEventListener("beforeprint", function () {
    drawings.forEach(function (drawing) { Plotly.relayout(drawing, {width: PAPER, autosize: false}); });
  });
  window.addEventListener("afterprint", function () {
    drawings.forEach(function (drawing) { Plotly.relayout(drawing, {width: null, autosize: true}); });
  });
})();
