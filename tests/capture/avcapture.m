// A stand-in for AVFoundation's AVCaptureDevice, for tests/capture/test_avfoundation.py: real messages on a real Objective-C
// runtime (GNUstep's Foundation on Debian), and a real block that is copied and called in another thread, as on a Mac.

#import <Foundation/Foundation.h>
#include <pthread.h>
#include <stdlib.h>

extern void *_Block_copy(const void *);
extern void _Block_release(const void *);

struct descriptor {
  unsigned long reserved;
  unsigned long size;
  const char *signature;
};

struct block {
  void *isa;
  int flags;
  int reserved;
  void (*invoke)(void *, _Bool);
  struct descriptor *descriptor;
};

static int status;
static int answer;

// answer: 0 or 1; -1 aborts, as for an app without a usage description; -2 never answers.
void set_consent(int new_status, int new_answer) {
  status = new_status;
  answer = new_answer;
}

static void *call(void *context) {
  struct block *handler = context;
  status = answer ? 3 : 2;
  handler->invoke(handler, answer != 0);
  _Block_release(handler);
  return NULL;
}

static void check(NSString *type) {
  if (![type isEqualToString:@"soun"]) abort();
}

@interface AVCaptureDevice : NSObject
@end

@implementation AVCaptureDevice
+ (NSInteger)authorizationStatusForMediaType:(NSString *)type {
  check(type);
  return status;
}

+ (void)requestAccessForMediaType:(NSString *)type completionHandler:(void *)block {
  struct block *handler = _Block_copy(block);
  pthread_t thread;
  check(type);
  if (answer == -1) abort();
  if (answer == -2) return;
  if (handler->descriptor->size != sizeof(struct block) || handler->descriptor->signature[0] != 'v') abort();
  pthread_create(&thread, NULL, call, handler);
  pthread_detach(thread);
}
@end

// GNUstep's runtime looks a method up and leaves the call to the compiler; Apple's has one function that does both.
#if defined(__x86_64__)
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,@function\nobjc_msgSend:\n"
        "push %rdi\npush %rsi\npush %rdx\npush %rcx\npush %r8\n"
        "call objc_msg_lookup@PLT\n"
        "pop %r8\npop %rcx\npop %rdx\npop %rsi\npop %rdi\njmp *%rax\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,%function\nobjc_msgSend:\n"
        "stp x0, x1, [sp, #-64]!\nstp x2, x3, [sp, #16]\nstp x4, x5, [sp, #32]\nstr x30, [sp, #48]\n"
        "bl objc_msg_lookup\nmov x16, x0\n"
        "ldr x30, [sp, #48]\nldp x4, x5, [sp, #32]\nldp x2, x3, [sp, #16]\nldp x0, x1, [sp], #64\nbr x16\n");
#endif
