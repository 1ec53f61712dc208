%% One connection's presence in a topic under a key. `id' is where it is from (this node, or one
%% life of another) and a number that no other row from there has. `ref' is another one whenever
%% `meta' changes; `prev' is the one before. `owner' ends it; who that is on another node is not
%% known.
-record(row, {
    id :: {here | hornbeam_links:peer(), Number :: non_neg_integer()},
    topic :: binary(),
    key :: binary(),
    ref :: binary(),
    prev = none :: binary() | none,
    %% a packed map
    meta :: binary(),
    owner = none :: pid() | none
}).
