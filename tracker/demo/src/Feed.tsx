/**
 * The events as the server has them, newest first.
 */

import { useState, type ReactElement } from "react";

import type { Arrival, Line } from "./arrivals.js";
import type { Arrivals } from "./useArrivals.js";

const LINES: Readonly<Record<Line, string>> = {
  connecting: "connecting",
  live: "live",
  polling: "asking every second",
  away: "the server is away",
};

const FILTERS = ["All", "Clicks", "Hovers", "Views", "Mine"] as const;
type Filter = (typeof FILTERS)[number];

function passes(filter: Filter, { event }: Arrival, visitor: string): boolean {
  switch (filter) {
    case "All":
      return true;
    case "Clicks":
      return event.event_type === "CLICK";
    case "Hovers":
      return event.event_type.startsWith("HOVER");
    case "Views":
      return event.event_type === "PAGE_VIEW";
    case "Mine":
      return event.user_metadata["visitor"] === visitor;
  }
}

const KINDS: Readonly<Record<string, string>> = {
  CLICK: "click",
  HOVER_ENTER: "enter",
  HOVER_LEAVE: "leave",
  PAGE_VIEW: "view",
};

/** The middle one. */
function median(numbers: readonly number[]): number | undefined {
  return [...numbers].sort((one, other) => one - other)[Math.floor(numbers.length / 2)];
}

function Row({ arrival, visitor }: { readonly arrival: Arrival; readonly visitor: string }): ReactElement {
  const { event } = arrival;
  const { visitor: who, ...metadata } = event.user_metadata;
  const mine = who === visitor;
  const said = Object.entries(metadata)
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join(", ");
  return (
    <li className={arrival.old ? "" : "fresh"} data-event-id={event.event_id}>
      <span className={`kind ${KINDS[event.event_type] ?? "other"}`}>{event.event_type.replace("_", " ")}</span>
      <span className="what">
        <b>{event.component_name || event.page_title || "page"}</b>
        <small title={said}>{said || event.page_path}</small>
      </span>
      <span className="when">
        <time>{new Date(event.timestamp).toLocaleTimeString([], { hour12: false })}</time>
        <small>{mine ? "you" : String(who ?? "")}</small>
      </span>
    </li>
  );
}

/** The right half of the page. */
export function Feed(props: {
  readonly arrivals: Arrivals & { readonly line: Line };
  readonly waiting: number;
  readonly visitor: string;
  readonly stream: string;
}): ReactElement {
  const { arrivals, waiting, visitor, stream } = props;
  const [filter, setFilter] = useState<Filter>("All");
  const shown = arrivals.newest.filter((arrival) => passes(filter, arrival, visitor));
  const delay = median(arrivals.delays);
  return (
    <aside className="feed" aria-label="Events">
      <header>
        <h2>
          <code>{stream}</code>
        </h2>
        <span className={`line ${arrivals.line}`} role="status">
          {LINES[arrivals.line]}
        </span>
      </header>
      <dl>
        <div>
          <dt>wait in this browser</dt>
          <dd data-testid="waiting">{waiting}</dd>
        </div>
        <div>
          <dt>arrived since you came</dt>
          <dd data-testid="arrived">{arrivals.count}</dd>
        </div>
        <div>
          <dt>from action to here</dt>
          <dd>{delay === undefined ? "–" : delay < 1_000 ? `${Math.round(delay)} ms` : `${(delay / 1_000).toFixed(1)} s`}</dd>
        </div>
      </dl>
      <div className="filters" role="group" aria-label="Which events">
        {FILTERS.map((name) => (
          <button key={name} type="button" aria-pressed={name === filter} onClick={() => setFilter(name)}>
            {name}
          </button>
        ))}
      </div>
      {shown.length === 0 ? (
        <p className="none">{arrivals.line === "away" ? "Your events wait until the server is back." : "Nothing yet: move over a card."}</p>
      ) : (
        <ol>
          {shown.map((arrival) => (
            <Row key={arrival.event.event_id} arrival={arrival} visitor={visitor} />
          ))}
        </ol>
      )}
    </aside>
  );
}
