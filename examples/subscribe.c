/* Print embeddings as they come, in C.
 *
 *     cc -std=c11 -Wall -Wextra -O2 -o subscribe subscribe.c $(pkg-config --cflags --libs libzmq msgpack)
 *     ./subscribe [--bits] [ENDPOINT [COUNT]]
 *
 * Needs libzmq and msgpack-c (Debian: libzmq3-dev libmsgpack-dev pkg-config). With --bits each number is printed as the eight
 * hexadecimal digits of its float32. For a daemon with --curve, set CURVE_SERVER_KEY, CURVE_PUBLIC_KEY and
 * CURVE_SECRET_KEY to what the client's key file holds (`mertd keys show` says where).
 */
#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

/* Return the value of a key; exit if the message does not have it. */
static const msgpack_object *get(const msgpack_object *map, const char *key) {
    if (map->type == MSGPACK_OBJECT_MAP) {
        for (uint32_t i = 0; i < map->via.map.size; i++) {
            const msgpack_object_kv *pair = &map->via.map.ptr[i];
            if (pair->key.type == MSGPACK_OBJECT_STR && pair->key.via.str.size == strlen(key) &&
                memcmp(pair->key.via.str.ptr, key, strlen(key)) == 0)
                return &pair->val;
        }
    }
    fprintf(stderr, "the message has no %s\n", key);
    exit(1);
}

static const msgpack_object_str *text(const msgpack_object *map, const char *key) {
    const msgpack_object *found = get(map, key);
    if (found->type != MSGPACK_OBJECT_STR) {
        fprintf(stderr, "%s is not text\n", key);
        exit(1);
    }
    return &found->via.str;
}

static void print(const msgpack_object *message, int bits) {
    if (get(message, "schema")->via.u64 != 1) {
        fprintf(stderr, "this reads version 1 of the format, not %" PRIu64 "\n", get(message, "schema")->via.u64);
        exit(1);
    }
    const msgpack_object_str *daemon = text(message, "daemon"), *stream = text(message, "stream");
    const msgpack_object *data = get(get(message, "vector"), "data"); /* float32, little-endian, (layers, numbers) */
    if (data->type != MSGPACK_OBJECT_BIN) {
        fprintf(stderr, "vector.data is not bytes\n");
        exit(1);
    }
    printf("%.*s %.*s %" PRIu64 " %" PRId64, (int)daemon->size, daemon->ptr, (int)stream->size, stream->ptr,
           get(message, "seq")->via.u64, get(get(message, "time"), "start_ns")->via.i64);
    uint32_t count = data->via.bin.size / 4;
    for (uint32_t i = 0; i < count && (bits || i < 3); i++) {
        const unsigned char *byte = (const unsigned char *)data->via.bin.ptr + 4 * i;
        uint32_t word = byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
        float number;
        memcpy(&number, &word, sizeof number);
        if (bits)
            printf(" %08" PRIx32, word);
        else
            printf(" %.3f", number);
    }
    printf(bits ? "\n" : " …\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    int bits = argc > 1 && strcmp(argv[1], "--bits") == 0;
    const char *endpoint = argc > 1 + bits ? argv[1 + bits] : "tcp://127.0.0.1:5590";
    long count = argc > 2 + bits ? atol(argv[2 + bits]) : -1;

    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_SUB);
    int linger = 0;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (getenv("CURVE_SERVER_KEY")) {
        const char *own[] = {getenv("CURVE_PUBLIC_KEY"), getenv("CURVE_SECRET_KEY")};
        if (!own[0] || !own[1] || zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, getenv("CURVE_SERVER_KEY"), 41) ||
            zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, own[0], 41) || zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, own[1], 41))
            fail("the keys in the environment");
    }
    int ipv6 = strchr(endpoint, '[') != NULL; /* without it, libzmq knows no addresses such as [::1] */
    zmq_setsockopt(socket, ZMQ_IPV6, &ipv6, sizeof ipv6);
    if (zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "embedding/", 10) || zmq_connect(socket, endpoint))
        fail(endpoint);

    while (count != 0) {
        zmq_msg_t topic, payload;
        zmq_msg_init(&topic);
        zmq_msg_init(&payload);
        if (zmq_msg_recv(&topic, socket, 0) < 0 || !zmq_msg_more(&topic) || zmq_msg_recv(&payload, socket, 0) < 0)
            fail("receiving");
        msgpack_unpacked message;
        msgpack_unpacked_init(&message);
        if (msgpack_unpack_next(&message, zmq_msg_data(&payload), zmq_msg_size(&payload), NULL) != MSGPACK_UNPACK_SUCCESS) {
            fprintf(stderr, "the payload is not msgpack\n");
            return 1;
        }
        print(&message.data, bits);
        msgpack_unpacked_destroy(&message);
        zmq_msg_close(&topic);
        zmq_msg_close(&payload);
        count -= count > 0;
    }
    zmq_close(socket);
    zmq_ctx_term(context);
    return 0;
}
