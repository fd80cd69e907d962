"use client";
/**
 * The tracker for React: a provider that starts and stops it, and hooks that give handlers to components.
 */

import { createContext, useContext, useEffect, useMemo, useRef, useState } from "react";
import type { ReactElement, ReactNode } from "react";

import type { EventType, Metadata } from "./event.js";
import { UserTracker, type TrackerSettings } from "./tracker.js";

const Context = createContext<UserTracker | undefined>(undefined);

/** Either settings, or a tracker that was made elsewhere and that somebody else stops. */
export type TrackerProviderProps = { readonly children?: ReactNode } & (
  | { readonly settings: TrackerSettings; readonly tracker?: never }
  | { readonly tracker: UserTracker; readonly settings?: never }
);

/** Gives a tracker to the hooks of everything inside of it. Settings are read once; a new `key` makes a new one. */
export function TrackerProvider(props: TrackerProviderProps): ReactElement {
  const { children, settings, tracker: given } = props;
  const [made] = useState(() => (settings ? new UserTracker(settings) : undefined));
  const tracker = given ?? made;
  useEffect(() => {
    tracker?.start();
    return () => made?.stop();
  }, [tracker, made]);
  return <Context.Provider value={tracker}>{children}</Context.Provider>;
}

/** The tracker, for events that are no clicks and no hovers. */
export function useTracker(): UserTracker {
  const tracker = useContext(Context);
  if (!tracker) {
    throw new Error("there is no <TrackerProvider> around this component");
  }
  return tracker;
}

/** What a handler is called with: an event of React or of the browser, or whatever a component makes of it. */
type Happened = { readonly currentTarget?: unknown } | null | undefined | void;

/** Handlers that track. Spread them over an element: `<button {...useUserTracker("BuyButton")}>`. */
export interface TrackedHandlers {
  readonly onClick: (happened: Happened) => void;
  readonly onMouseEnter: (happened: Happened) => void;
  readonly onMouseLeave: (happened: Happened) => void;
}

/** Handlers for a component of that name; they stay the same as long as the name does. */
export function useUserTracker(component: string, metadata?: Metadata): TrackedHandlers {
  const tracker = useTracker();
  const latest = useRef(metadata);
  useEffect(() => {
    latest.current = metadata;
  });
  return useMemo(() => {
    const handler = (type: EventType) => (happened: Happened) => {
      const target = happened?.currentTarget;
      const element = target instanceof Element ? target : undefined;
      const metadata = latest.current;
      tracker.track(type, {
        component,
        location: "COMPONENT",
        ...(element && { element }),
        ...(metadata && { metadata }),
      });
    };
    return {
      onClick: handler("CLICK"),
      onMouseEnter: handler("HOVER_ENTER"),
      onMouseLeave: handler("HOVER_LEAVE"),
    };
  }, [tracker, component]);
}

/** Tracks a view of the page when the component appears, and again whenever `path` changes. */
export function usePageView(path?: string, metadata?: Metadata): void {
  const tracker = useTracker();
  const seen = useRef<{ readonly tracker: UserTracker; readonly path: string | undefined }>(undefined);
  useEffect(() => {
    // Under StrictMode effects run twice; the page was opened once.
    if (seen.current?.tracker !== tracker || seen.current.path !== path) {
      seen.current = { tracker, path };
      tracker.pageView(metadata);
    }
    // Other metadata are no other view.
  }, [tracker, path]);
}
