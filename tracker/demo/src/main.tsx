/**
 * The demo of `react-user-tracker`: a shop whose visitors are tracked, beside the events as the server has them.
 */

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { TrackerProvider, UserTracker } from "../../src/index.js";
import { Page } from "./Page.js";
import { settings } from "./settings.js";
import "./style.css";

const place = document.getElementById("root");
if (place) {
  const root = createRoot(place);
  try {
    const known = await settings();
    const tracker = new UserTracker({
      endpointUrl: known.track,
      appName: "mill-shop",
      appVersion: known.version,
      // Small, so that something is to be seen soon.
      batchSize: 5,
      flushInterval: 1_000,
    });
    const visitor = Math.random().toString(36).slice(2, 8);
    tracker.setMetadata({ visitor });
    root.render(
      <StrictMode>
        <TrackerProvider tracker={tracker}>
          <Page settings={known} visitor={visitor} />
        </TrackerProvider>
      </StrictMode>,
    );
  } catch (error) {
    root.render(<p className="failed">{error instanceof Error ? error.message : String(error)}</p>);
  }
}
