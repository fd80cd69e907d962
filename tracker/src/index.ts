/**
 * The package: the class, which needs nothing, and what makes it convenient in React. Without React, import
 * `react-user-tracker/tracker`.
 */

export { UserTracker } from "./tracker.js";
export type {
  Batch,
  Details,
  DomInfo,
  EventType,
  LocationType,
  Log,
  Metadata,
  TrackedEvent,
  TrackerSettings,
} from "./tracker.js";
export { TrackerProvider, usePageView, useTracker, useUserTracker } from "./react.js";
export type { TrackedHandlers, TrackerProviderProps } from "./react.js";
