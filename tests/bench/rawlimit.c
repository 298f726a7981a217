/* raw limit: accept N conns, every 1/RATE s write a frame to each
 * usage: rawlimit PORT CONNS RATE SECONDS [PAD] */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <time.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <signal.h>
static double mono(){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec+t.tv_nsec/1e9;}
int main(int c,char**v){ int port=atoi(v[1]),n=atoi(v[2]);double rate=atof(v[3]),secs=atof(v[4]); signal(SIGPIPE,SIG_IGN);
 int l=socket(AF_INET,SOCK_STREAM,0),one=1; setsockopt(l,SOL_SOCKET,SO_REUSEADDR,&one,4); struct sockaddr_in a={0};a.sin_family=AF_INET;a.sin_port=htons(port);a.sin_addr.s_addr=htonl(INADDR_LOOPBACK);
 bind(l,(void*)&a,sizeof a);listen(l,4096);int*f=malloc(n*4);char b[4096];
 for(int i=0;i<n;i++){f[i]=accept(l,0,0);setsockopt(f[i],IPPROTO_TCP,TCP_NODELAY,&one,4);read(f[i],b,4096);char*h="HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";write(f[i],h,strlen(h));fcntl(f[i],F_SETFL,O_NONBLOCK);}
 double nxt=mono(),end=nxt+secs;int size=c>5?atoi(v[5]):150;if(size<0||size>3500)size=150;char pad[3501];memset(pad,'x',size);pad[size]=0;long ok=0,rounds=0;
 while(mono()<end){nxt+=1/rate;double d=nxt-mono();if(d>0)usleep(d*1e6);struct timespec t;clock_gettime(CLOCK_REALTIME,&t);int len=sprintf(b,"id: %ld\ndata: {\"p\":\"%s\",\"t\":%ld}\n\n",rounds,pad,t.tv_sec*1000000L+t.tv_nsec/1000);for(int i=0;i<n;i++)if(write(f[i],b,len)==len)ok++;rounds++;}
 fprintf(stderr,"limit wrote %ld rounds %ld = %.0f/s\n",ok,rounds,ok/secs);}
