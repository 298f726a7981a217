/* streamload: hold N streaming HTTP subscribers (SSE or any endless response) and measure
 * deliveries and their age. Build: cc -O2 -o streamload streamload.c
 * usage: streamload HOST PORT PATH CONNS SECONDS MARKER UNIT [WARMUP_S] [EXTRA_HEADER] [NAME]
 *   PATH   may hold %d, replaced by the connection's index
 *   MARKER text that stands right before a decimal unix timestamp in the stream, e.g. "\"t\":"
 *   UNIT   s|ms|us|ns of that timestamp
 * Says "opened" when every connection was answered; WARMUP_S and SECONDS count from there.
 *   NAME   text that stands right before the number in an instrument's name, e.g. "\"A"; a
 *          connection's instruments differ in that number's last digit
 * Counts every marker seen; age = now - timestamp, into a log histogram (us). With NAME it
 * also looks now and then how old the newest price is that each connection holds of each
 * instrument: what is waited for ages as well.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <errno.h>
#include <unistd.h>
#include <fcntl.h>
#include <time.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>

typedef struct { int fd; int state; int m; int digits; uint64_t num; uint64_t seen; char first[16]; int nfirst; int n; int naming; int slot; uint64_t held[10]; } conn;
static char *marker; static int mlen; static double unit_us;
#define NB 4000
static uint64_t hist[NB], helds[NB]; static uint64_t total, aged, looks, bytes, closed, bad; static double maxage, maxheld;
static char *name; static int nlen;
static double now_us(void){ struct timespec t; clock_gettime(CLOCK_REALTIME,&t); return t.tv_sec*1e6+t.tv_nsec/1e3; }
static int bucket(double us){ if(us<1) us=1; int b=0; double v=us; /* 1% log buckets */
  b=(int)(__builtin_log(v)/0.00995); if(b>=NB) b=NB-1; return b; }
static double val(int b){ return __builtin_exp(b*0.00995); }
static double pct(uint64_t*h, uint64_t all, double most, double p){ uint64_t want=(uint64_t)(all*p), c=0; for(int i=0;i<NB;i++){ c+=h[i]; if(c>want) return val(i);} return most; }
static void look(conn*cs,int n){ double now=now_us();
  for(int i=0;i<n;i++) for(int s=0;s<10;s++) if(cs[i].held[s]){ double age=now-cs[i].held[s]*unit_us; if(age<0)age=0; helds[bucket(age)]++; looks++; if(age>maxheld)maxheld=age; } }

int main(int argc,char**argv){
  if(argc<8){ fprintf(stderr,"usage: see source\n"); return 2; }
  const char*host=argv[1]; int port=atoi(argv[2]); const char*path=argv[3]; int n=atoi(argv[4]); double secs=atof(argv[5]);
  marker=argv[6]; mlen=strlen(marker); char*u=argv[7];
  unit_us = !strcmp(u,"s")?1e6: !strcmp(u,"ms")?1e3: !strcmp(u,"us")?1: 1e-3;
  double warm = argc>8?atof(argv[8]):2; const char*extra=argc>9?argv[9]:"";
  name = argc>10?argv[10]:""; nlen=strlen(name); double next_look=0;
  struct rlimit rl={1<<20,1<<20}; setrlimit(RLIMIT_NOFILE,&rl);
  int ep=epoll_create1(0); conn*cs=calloc(n,sizeof(conn));
  int opened=0; double t0=now_us();
  static char buf[1<<18];
  double start=0,end=0; uint64_t first_ok=0;
  int idx=0; 
  for(;;){
    /* open gradually: up to 200 outstanding per loop */
    int burst=0;
    while(idx<n && burst<50){
      int fd=socket(AF_INET,SOCK_STREAM,0); if(fd<0){perror("socket");return 1;}
      struct sockaddr_in a={0}; a.sin_family=AF_INET; a.sin_port=htons(port); inet_pton(AF_INET,host,&a.sin_addr);
      /* spread over 127.0.0.x sources to pass the 28k port limit */
      struct sockaddr_in s={0}; s.sin_family=AF_INET; char sa[32]; snprintf(sa,sizeof sa,"127.0.0.%d",1+(idx/20000)); inet_pton(AF_INET,sa,&s.sin_addr); bind(fd,(void*)&s,sizeof s);
      if(connect(fd,(void*)&a,sizeof a)<0){ perror("connect"); return 1; }
      int one=1; setsockopt(fd,IPPROTO_TCP,TCP_NODELAY,&one,sizeof one);
      /* However we end, leave no port behind in TIME_WAIT: the next run needs as many. */
      struct linger at_once={1,0}; setsockopt(fd,SOL_SOCKET,SO_LINGER,&at_once,sizeof at_once);
      char p[512]; snprintf(p,sizeof p,path,idx); char req[1400];
      int l=snprintf(req,sizeof req,"GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n%s%s\r\n",p,host,port,extra,*extra?"\r\n":"");
      if(write(fd,req,l)!=l){perror("write");return 1;}
      fcntl(fd,F_SETFL,O_NONBLOCK); cs[idx].fd=fd;
      struct epoll_event ev={.events=EPOLLIN,.data.u32=idx}; epoll_ctl(ep,EPOLL_CTL_ADD,fd,&ev);
      idx++; burst++; opened++;
    }
    if(idx==n && start==0 && first_ok+bad+closed>=(uint64_t)n){ start=now_us()+warm*1e6; end=start+secs*1e6; fprintf(stderr,"opened %d in %.2fs\n",n,(now_us()-t0)/1e6); }
    struct epoll_event evs[512]; int k=epoll_wait(ep,evs,512,idx<n?0:10);
    double now=now_us(); if(start && now>end) break;
    if(nlen && start && now>=start && now>=next_look){ look(cs,n); next_look=now+50e3; }
    for(int i=0;i<k;i++){ conn*c=&cs[evs[i].data.u32];
      ssize_t r=read(c->fd,buf,sizeof buf);
      if(r<=0){ if(r<0&&errno==EAGAIN) continue; close(c->fd); closed++; continue; }
      if(c->nfirst<12){ int q=12-c->nfirst; if(q>r)q=r; memcpy(c->first+c->nfirst,buf,q); c->nfirst+=q; if(c->nfirst==12){ if(!strncmp(c->first+9,"200",3)) first_ok++; else bad++; } }
      now=now_us(); int meas = start && now>=start; if(meas) bytes+=r;
      for(ssize_t j=0;j<r;j++){ char ch=buf[j];
        if(nlen){ if(c->naming){ if(ch>='0'&&ch<='9') c->slot=ch-'0'; else { c->naming=0; c->n=0; } }
          else if(ch==name[c->n]){ if(++c->n==nlen){ c->naming=1; c->n=0; } } else c->n = ch==name[0]; }
        if(c->state){ if(ch>='0'&&ch<='9'){ c->num=c->num*10+(ch-'0'); c->digits++; }
          else { if(c->digits>5){ c->seen++; c->held[c->slot]=c->num; if(meas){ double age=now-c->num*unit_us; if(age<0)age=0; total++;
            /* A chunk's border may cut a number in two: it was delivered, but tells no age. */
            if(age<3.6e9){ hist[bucket(age)]++; aged++; if(age>maxage)maxage=age; } } } c->state=0;c->m=0; } }
        else if(ch==marker[c->m]){ if(++c->m==mlen){ c->state=1;c->digits=0;c->num=0;c->m=0; } }
        else c->m = ch==marker[0]; }
    }
  }
  uint64_t mn=~0ull,mx=0,zero=0; for(int i=0;i<n;i++){ if(cs[i].seen<mn)mn=cs[i].seen; if(cs[i].seen>mx)mx=cs[i].seen; if(!cs[i].seen)zero++; }
  struct rusage ru; getrusage(RUSAGE_SELF,&ru);
  printf("{\"conns\":%d,\"ok\":%lu,\"bad\":%lu,\"closed\":%lu,\"silent\":%lu,\"deliveries\":%lu,\"per_s\":%.0f,\"MB_s\":%.2f,\"age_us\":{\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"p999\":%.0f,\"max\":%.0f},\"held_us\":{\"p50\":%.0f,\"p99\":%.0f,\"max\":%.0f},\"seen_min\":%lu,\"seen_max\":%lu,\"client_cpu_s\":%.2f}\n",
    n,first_ok,bad,closed,zero,total,total/secs,bytes/secs/1e6,pct(hist,aged,maxage,.5),pct(hist,aged,maxage,.9),pct(hist,aged,maxage,.99),pct(hist,aged,maxage,.999),maxage,pct(helds,looks,maxheld,.5),pct(helds,looks,maxheld,.99),maxheld,mn,mx, ru.ru_utime.tv_sec+ru.ru_utime.tv_usec/1e6+ru.ru_stime.tv_sec+ru.ru_stime.tv_usec/1e6);
  return 0;
}
