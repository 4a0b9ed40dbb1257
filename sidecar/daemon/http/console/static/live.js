// New records at the top of the live page. The server escapes all text; a stream ends after some seconds, and the browser
// asks again with the time of the last record.
"use strict";
(() => {
  const LIMIT = 200;
  const place = document.getElementById("live");
  const body = document.querySelector("#rows tbody");
  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  if (!place || !body || !place.dataset.stream || !window.EventSource) return;
  let last = place.dataset.last;
  let source = null;
  let arrived = 0;

  const show = (html) => {
    const made = document.createElement("template");
    made.innerHTML = `<table><tbody>${html}</tbody></table>`;
    const known = new Set([...body.rows].map((row) => row.dataset.key));
    const rows = [...made.content.querySelectorAll("tr")].filter((row) => !known.has(row.dataset.key));
    for (const row of rows) {
      row.classList.add("arrived");
      sidecarTimes(row);
    }
    body.prepend(...rows);
    // Keys have equally many digits. Records of several workers arrive out of order.
    const ordered = [...body.rows].sort((one, other) => (one.dataset.key < other.dataset.key ? 1 : -1));
    body.append(...ordered);
    while (body.rows.length > LIMIT) body.rows[body.rows.length - 1].remove();
    arrived += rows.length;
  };

  const open = () => {
    source = new EventSource(`${place.dataset.stream}&last=${last}`);
    source.onopen = () => { state.textContent = arrived ? `Live, ${arrived} new records` : "Live"; };
    source.onmessage = (event) => {
      show(event.data);
      last = event.lastEventId || last;
      state.textContent = `Live, ${arrived} new records`;
    };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      state.textContent = "The stream has ended: reload the page.";
      pause.hidden = true;
    };
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = source !== null;
    if (paused) {
      source.close();
      source = null;
      state.textContent = "Paused";
    } else {
      open();
    }
    pause.textContent = paused ? "Continue" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
  });
  open();
})();
