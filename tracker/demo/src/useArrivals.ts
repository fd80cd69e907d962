/**
 * What arrived, for the page: newest first, each event once, a bounded number of them.
 */

import { useEffect, useReducer, useState } from "react";

import { listen, type Arrival, type Line } from "./arrivals.js";
import type { DemoSettings } from "./settings.js";

/** Events that are shown. */
const SHOWN_MAX = 200;

/** Ids that are remembered, so that a repeat is noticed. */
const KNOWN_MAX = 5_000;

/** What arrived. */
export interface Arrivals {
  readonly newest: readonly Arrival[];
  /** How many arrived while this page was there. */
  readonly count: number;
  /** From action to screen, in ms, of this visitor's last events. */
  readonly delays: readonly number[];
  readonly known: ReadonlySet<string>;
}

const NOTHING: Arrivals = { newest: [], count: 0, delays: [], known: new Set() };

function add(before: Arrivals, arrived: readonly Arrival[], visitor: string): Arrivals {
  const fresh = arrived.filter(({ event }) => !before.known.has(event.event_id));
  if (fresh.length === 0) {
    return before;
  }
  const live = fresh.filter(({ old }) => !old);
  const mine = live.filter(({ event }) => event.user_metadata["visitor"] === visitor);
  const delays = mine.map(({ event, seen }) => seen - event.timestamp);
  const known = [...before.known, ...fresh.map(({ event }) => event.event_id)].slice(-KNOWN_MAX);
  return {
    newest: [...fresh].reverse().concat(before.newest).slice(0, SHOWN_MAX),
    count: before.count + live.length,
    delays: [...before.delays, ...delays].slice(-50),
    known: new Set(known),
  };
}

/** Listens as long as the page is there. */
export function useArrivals(settings: DemoSettings, visitor: string): Arrivals & { readonly line: Line } {
  const [line, changed] = useState<Line>("connecting");
  const reducer = (before: Arrivals, arrived: readonly Arrival[]): Arrivals => add(before, arrived, visitor);
  const [arrivals, arrived] = useReducer(reducer, NOTHING);
  useEffect(() => listen(settings, { arrived, changed }), [settings]);
  return { ...arrivals, line };
}
