// Draws every figure of the page from the data beside it, and again at the paper's width when it is printed.
(function () {
  var PAPER = 680; // CSS pixels between the margins of an A4 or Letter page
  var drawings = [];
  document.querySelectorAll(".figure").forEach(function (place) {
    var figure = JSON.parse(place.querySelector("script").textContent);
    var drawing = place.querySelector(".drawing");
    Plotly.newPlot(drawing, figure.data, figure.layout, {displayModeBar: false, responsive: true});
    drawings.push(drawing);
  });
  window.addEventListener("beforeprint", function () {
    drawings.forEach(function (drawing) { Plotly.relayout(drawing, {width: PAPER, autosize: false}); });
  });
  window.addEventListener("afterprint", function () {
    drawings.forEach(function (drawing) { Plotly.relayout(drawing, {width: null, autosize: true}); });
  });
})();
