%% What the modules of a link agree on.

%% Rooms have numbers, for the cells in which their messages are counted.
-define(MAX_ROOMS, 16).

%% What a message costs beside its bytes (about).
-define(MESSAGE_COST, 200).

%% What goes between nodes: {?TAG, Kind, …}. docs/internals.md lists the kinds.
-define(TAG, hornbeam_link).
