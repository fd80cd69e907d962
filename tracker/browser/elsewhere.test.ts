/**
 * The built package, as a browser loads it without any bundler, on a page of another origin than the server's.
 */

import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { Browser } from "./browser.js";
import { Tidemill, until } from "./server.js";

/** A page with one button. Its last words are said when it goes. */
const page = (collector: string): string => `<!doctype html>
<title>Elsewhere</title>
<button>Buy</button>
<script type="module">
  import { UserTracker } from "/esm/tracker.js";
  const settings = { endpointUrl: "${collector}/track", appName: "elsewhere", appVersion: "1", batchSize: 4, flushInterval: 60000 };
  const tracker = new UserTracker(settings);
  tracker.start();
  document.querySelector("button").addEventListener("click", (event) => {
    tracker.track("CLICK", { component: "Buy", element: event.currentTarget });
    document.body.dataset.waiting = tracker.waiting;
  });
  addEventListener("pagehide", () => tracker.track("PAGE_LEAVE"));
  document.body.dataset.locks = String("locks" in navigator);
  document.body.dataset.waiting = tracker.waiting;
  setInterval(() => (document.body.dataset.waiting = tracker.waiting), 50);
</script>`;

describe.each([
  ["127.0.0.1", "true"],
  ["shop.example", "false"],
])("a page on %s", (host, locks) => {
  let server: Tidemill;
  let browser: Browser;
  let pages: Server;
  let address: string;
  beforeEach(async () => {
    browser = new Browser();
    server = await Tidemill.start();
    pages = createServer((request, response) => {
      const module = /^\/esm\/([a-z]+\.js)$/.exec(request.url ?? "")?.[1];
      if (module) {
        const text = readFileSync(new URL(`../dist/esm/${module}`, import.meta.url));
        response.writeHead(200, { "content-type": "text/javascript" }).end(text);
      } else {
        response.writeHead(200, { "content-type": "text/html" }).end(page(server.url));
      }
    });
    await new Promise<void>((listens) => pages.listen(0, "127.0.0.1", listens));
    address = `http://${host}:${(pages.address() as AddressInfo).port}/`;
  });
  afterEach(async () => {
    await browser.remove();
    pages.close();
    await server.remove();
  });

  it("may send to the server, by requests and by a beacon when it goes", async () => {
    const shown = await browser.open(address, "body[data-waiting]");
    expect(await shown.getAttribute("body", "data-locks")).toBe(locks);
    for (let click = 0; click < 5; click += 1) {
      await shown.click("button");
    }
    await shown.waitForSelector("body[data-waiting='1']");
    await shown.goto("about:blank");
    // Nobody comes back to this page: what arrives now came by the beacons.
    const rows = await until("clicks and last words", async () => {
      const rows = await server.sql(
        "SELECT event_type, count(*), count(DISTINCT event_id) FROM user_events GROUP BY 1 ORDER BY 1",
      );
      return rows.length === 2 && Number(rows[0]?.[1]) === 5 && rows;
    });
    expect(rows).toEqual([
      ["CLICK", 5, 5],
      ["PAGE_LEAVE", 1, 1],
    ]);
    expect(browser.complaints).toEqual([]);
  });
});
