%% A request as all that handle it know it, whatever engine has read it.

-record(request, {
    version :: hornbeam_request:version(),
    method :: binary(),
    %% percent-encoded, as it came
    path :: binary(),
    query :: binary(),
    %% the mount that it is for, by its path, and what follows that in the request's; none where no
    %% app is
    mount = <<"/">> :: hornbeam_config:path() | none,
    below :: binary(),
    %% in the order and number in which they came, names in lower case
    fields :: hornbeam_headers:fields(),
    scheme :: binary(),
    %% what the scope says of TLS, the same for all requests of a connection
    tls = none :: none | hornbeam_wire:packed_tls(),
    %% with the option request_id; a field of the request, too
    id = none :: none | binary(),
    %% whether the target, in absolute form, is one of https
    https = false :: boolean(),
    peer :: hornbeam_request:address(),
    server :: hornbeam_request:address(),
    %% how many bytes of body follow, if any and if that is known
    body = none :: none | non_neg_integer() | unknown,
    upgrade = none :: none | websocket,
    %% what the node's own code said of the client
    connect = undefined :: map() | undefined,
    %% which session of the app it is of, where the app asks for that
    affinity = none :: none | hornbeam_affinity:affinity(),
    %% all of the scope but its line, once it is packed
    rest = undefined :: hornbeam_wire:packed_rest() | undefined,
    socket :: hornbeam_socket:socket()
}).
