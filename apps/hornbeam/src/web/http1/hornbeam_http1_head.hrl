%% What the fields of a request say, read once.

-record(fields, {
    %% as they came, without the last line's end
    block :: binary() | none,
    list = [] :: hornbeam_headers:fields(),
    host = none :: binary() | none,
    body = none :: none | non_neg_integer() | unknown,
    %% in lower case
    connection = [] :: [binary()],
    upgrade = none :: none | websocket,
    expect = false :: boolean(),
    %% whether the target is one of https
    https = false :: boolean(),
    %% what is packed of a scope with these fields, for a request that was let in by them alone
    rest = undefined :: hornbeam_wire:packed_rest() | undefined
}).
