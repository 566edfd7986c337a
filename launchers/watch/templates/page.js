(() => {
  "use strict";
  const every = 1000 * document.body.dataset.every, state = document.getElementById("state");
  let tag = "", seen = {}, asking = false;
  const clock = () => new Date().toLocaleTimeString();

  // Only what has changed is put in, and what was scrolled in it stays where it was.
  const put = (parts) => {
    const y = scrollY;
    for (const [key, text] of Object.entries(parts)) {
      if (seen[key] === text) continue;
      seen[key] = text;
      const place = document.getElementById("part-" + key);
      const boxes = () => [...place.querySelectorAll(".rows, figure")];
      const kept = boxes().map((box) => [box.scrollLeft, box.scrollTop]);
      place.innerHTML = text;
      boxes().forEach((box, at) => { if (kept[at]) [box.scrollLeft, box.scrollTop] = kept[at]; });
    }
    if (scrollY !== y) scrollTo(scrollX, y);
  };
  const ask = async () => {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const answer = await fetch("/state", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        put(await answer.json());
        tag = answer.headers.get("ETag") || "";
      } else if (answer.status !== 304) throw new Error(answer.status);
      state.className = "";
      state.textContent = "Looked at " + clock();
    } catch {
      if (!state.classList.contains("lost")) state.textContent = `No answer since ${clock()}: the watch has ended.`;
      state.className = "lost";
    }
    asking = false;
  };
  addEventListener("visibilitychange", ask);
  setInterval(ask, every);
  ask();
})();
