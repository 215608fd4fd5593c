/* Loaded into Dino before everything else (LD_PRELOAD): it has no settings for what a test must say.

   The server is where DNS says, else at port 5222: here nothing is in DNS, and the port is PEER_PORT.
   Trusted is what the system trusts: here the root certificate in PEER_ROOT alone, so that nothing else passes either. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { XMPP = 5222, PEM = 1 };

int connect(int socket, const struct sockaddr *address, socklen_t length)
{
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    struct sockaddr_storage other;
    if ((address->sa_family != AF_INET && address->sa_family != AF_INET6) || length > sizeof other)
        return next(socket, address, length);
    memcpy(&other, address, length);
    /* Both families have the port at the same place. */
    in_port_t *port = &((struct sockaddr_in *)&other)->sin_port;
    if (*port == htons(XMPP))
        *port = htons(atoi(getenv("PEER_PORT")));
    return next(socket, (struct sockaddr *)&other, length);
}

int res_nquery(res_state state, const char *name, int class, int type, unsigned char *answer, int length)
{
    h_errno = HOST_NOT_FOUND;
    return -1;
}

int gnutls_x509_trust_list_add_trust_file(void *list, const char *authorities, const char *revocations, int format,
                                          unsigned flags, unsigned verification);

int gnutls_x509_trust_list_add_system_trust(void *list, unsigned flags, unsigned verification)
{
    return gnutls_x509_trust_list_add_trust_file(list, getenv("PEER_ROOT"), NULL, PEM, flags, verification);
}
