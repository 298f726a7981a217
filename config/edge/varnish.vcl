# Varnish 7 before two or more instances of the relay: 2,000 clients that poll one
# selection cost the instances one request a grid step. Change the backends, then run
#
#   varnishd -a :80 -f varnish.vcl -s malloc,256m \
#     -p thread_pool_max=300 -p thread_queue_limit=20000 -p timeout_idle=75
#
# A waiting client holds no thread, so few threads serve many; a stream (/v1/stream,
# /v1/ws) holds one for as long as it lives: give them more threads than you expect
# streams, or send them past Varnish.
vcl 4.1;

import directors;
import std;

# Alive is enough: an instance that has lost the store still answers with what it holds.
probe alive {
    .url = "/healthz";
    .interval = 1s;
    .timeout = 500ms;
    .window = 3;
    .threshold = 2;
    .initial = 2;
}

# A poll is held for 25 s at most, and a quiet stream says something each 15 s: the
# time-outs are 10 s longer.
backend one {
    .host = "127.0.0.1";
    .port = "8001";
    .connect_timeout = 1s;
    .first_byte_timeout = 35s;
    .between_bytes_timeout = 25s;
    .probe = alive;
}

backend two {
    .host = "127.0.0.1";
    .port = "8002";
    .connect_timeout = 1s;
    .first_byte_timeout = 35s;
    .between_bytes_timeout = 25s;
    .probe = alive;
}

sub vcl_init {
    new relay = directors.round_robin();
    relay.add_backend(one);
    relay.add_backend(two);
}

sub vcl_recv {
    set req.backend_hint = relay.backend();
    if (req.restarts == 0) {
        unset req.http.X-Any-Age;
    }
    # A pipe takes whatever comes after it past all that stands here, so only where an
    # instance speaks WebSocket and hangs up on everything else.
    if (req.http.Upgrade ~ "(?i)^websocket$" && req.http.Connection ~ "(?i)upgrade"
        && req.url ~ "^/(v1/ws|ws/prices(/[^/?]*)?)(\?|$)") {
        return (pipe);
    }
    unset req.http.Upgrade;
    # What a key may read is not for everybody.
    if ((req.method != "GET" && req.method != "HEAD")
        || req.http.Authorization || req.http.X-API-Key) {
        return (pass);
    }
    if (req.url ~ "^/(v1|api/market-data)/stream(\?|$)") {
        return (pass);
    }
    # Nothing but the URL selects an answer, however its parameters are ordered; and no
    # client can make everybody's answer be fetched anew.
    unset req.http.Cookie;
    unset req.http.Cache-Control;
    unset req.http.Pragma;
    set req.url = std.querysort(req.url);
    # An old answer is for when there is nobody to ask; else one that is at most 2 s old
    # is shown while a new one is fetched (stale-while-revalidate).
    if (std.healthy(req.backend_hint) && !req.http.X-Any-Age) {
        set req.grace = 2s;
    }
    return (hash);
}

sub vcl_hash {
    hash_data(req.url);
    hash_data(req.http.Host);
    return (lookup);
}

sub vcl_pipe {
    set bereq.http.Upgrade = req.http.Upgrade;
    set bereq.http.Connection = req.http.Connection;
    return (pipe);
}

sub vcl_backend_fetch {
    if (bereq.url !~ "^/v1/(poll|stream)") {
        set bereq.first_byte_timeout = 5s;
    }
}

sub vcl_backend_response {
    # An instance that ends, or is behind, sends its clients to another one.
    if (beresp.status == 503 && bereq.retries < 1) {
        return (retry);
    }
    if (bereq.uncacheable) {
        return (deliver);
    }
    if (beresp.status >= 500) {
        # What is held is better, however old; ``vcl_synth`` looks for it.
        if (bereq.is_bgfetch || (bereq.url !~ "^/v1/poll" && !bereq.http.X-Any-Age)) {
            return (abandon);
        }
    }
    if (beresp.status != 200) {
        # So that a crowd with one mistake costs one request a second.
        set beresp.ttl = 1s;
        set beresp.grace = 0s;
        return (deliver);
    }
    if (beresp.http.Cache-Control ~ "(?i)no-store|no-cache|private"
        || beresp.http.Vary ~ "\*") {
        # For a moment nobody waits for another's answer here. The page and its parts are
        # asked for each time (no-cache): mostly a 304.
        set beresp.ttl = 10s;
        set beresp.uncacheable = true;
        return (deliver);
    }
    set beresp.keep = 0s;
    if (bereq.url ~ "^/v1/poll") {
        # Nothing stale: an answer is never older than the question. It is for all who
        # ask until the next mark.
        set beresp.ttl = std.duration(beresp.http.X-Grid-Ttl, 1s);
        set beresp.grace = 0s;
    } else {
        set beresp.grace = std.duration(
            regsub(beresp.http.Cache-Control, "^.*stale-if-error=(\d+).*$", "\1s"), 0s);
    }
    return (deliver);
}

sub vcl_backend_error {
    if (bereq.retries < 1) {
        return (retry);
    }
    if (bereq.is_bgfetch || (bereq.url !~ "^/v1/poll" && !bereq.http.X-Any-Age)) {
        return (abandon);
    }
    set beresp.status = 503;
    set beresp.ttl = 1s;
    set beresp.grace = 0s;
    set beresp.http.Retry-After = "1";
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Content-Type = "application/json";
    set beresp.body = """{"error":{"code":"edge_down","sentence":"No instance answers.","hint":"Ask again after Retry-After seconds."}}""";
    return (deliver);
}

sub vcl_synth {
    if (resp.status == 503 && req.restarts == 0 && !req.http.X-Any-Age) {
        set req.http.X-Any-Age = "1";
        return (restart);
    }
}

sub vcl_deliver {
    unset resp.http.Via;
    unset resp.http.X-Varnish;
    unset resp.http.X-Grid-Ttl;
    # RFC 9211, after what caches behind us say; a negative ttl is for how long the
    # answer has been stale.
    if (obj.hits > 0) {
        set req.http.X-Layer =
            {""varnish"; hit; ttl="} + std.integer(duration=obj.ttl, fallback=0);
    } else {
        set req.http.X-Layer = {""varnish"; fwd=miss"};
    }
    if (resp.http.Cache-Status) {
        set resp.http.Cache-Status = resp.http.Cache-Status + ", " + req.http.X-Layer;
    } else {
        set resp.http.Cache-Status = req.http.X-Layer;
    }
    return (deliver);
}
